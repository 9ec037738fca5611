"""Identity of endpoints: an answer of one of Google's addresses is as good as one of another."""

import re
from functools import lru_cache
from urllib.parse import urlsplit

GOOGLE = "https://generativelanguage.googleapis.com"
SIMULATOR = "simulator"
"""The endpoint in rows of a run with the embedded simulator, whose port changes each time."""
# The Gemini API; Vertex AI's global endpoint, its regions and multi-regions; the same with client
# certificates (google-genai 3.6.1, `_api_client.py`, 2026-11-18).
_is_google = re.compile(
    r"(?:generativelanguage|(?:[a-z0-9-]+-)?aiplatform)(?:\.mtls)?\.googleapis\.com"
    r"|aiplatform\.[a-z]+\.rep(?:\.mtls)?\.googleapis\.com"
).fullmatch


# Vertex AI has a price list of its own outside its global endpoint, about a tenth more expensive
# (https://cloud.google.com/vertex-ai/generative-ai/pricing, 2026-09-28).
REGIONAL_FACTOR = 1.1
_is_vertex_host = re.compile(
    r"(?:(?P<region>[a-z0-9-]+)-)?aiplatform(?:\.(?P<multi_region>[a-z]+)\.rep)?(?:\.mtls)?"
    r"\.googleapis\.com"
).fullmatch
_location_in_path = re.compile(r"/projects/[^/]+/locations/(?P<location>[^/]+)").search


def is_vertex(base_url: str) -> bool:
    """Return whether a base URL is of Vertex AI, by its host, or by a location in its path."""
    host, path = _host_and_path(base_url)
    return bool(_is_vertex_host(host) or _location_in_path(path))


def is_regional(base_url: str) -> bool:
    """Return whether a base URL is of a location of Vertex AI other than global."""
    host, path = _host_and_path(base_url)
    found = [each for each in (_is_vertex_host(host), _location_in_path(path)) if each]
    locations = {name for each in found for name in each.groups() if name}
    return bool(locations - {"global"})


def price_factor(base_url: str) -> float:
    """Return what multiplies the list prices at a base URL: Vertex AI's locations cost more."""
    return REGIONAL_FACTOR if is_regional(base_url) else 1.0


def _host_and_path(base_url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
    except ValueError:  # not an address
        return "", ""
    return host, parts.path


@lru_cache(maxsize=256)
def service(endpoint: str) -> str:
    """Return the same text for all endpoints whose answers are interchangeable.

    Google's own hosts are one service, with any path. Any other endpoint is one of its own: a
    gateway may change what it passes on, and the simulator draws itself.
    """
    try:
        parts = urlsplit(endpoint)
        is_plain = parts.scheme == "https" and parts.port in (None, 443) and not parts.username
    except ValueError:  # not an address, as in a row that was edited
        return endpoint
    return GOOGLE if is_plain and _is_google(parts.hostname or "") else endpoint
