"""Identity of endpoints: an answer of one of Google's addresses is as good as one of another."""

import re
from functools import lru_cache
from urllib.parse import urlsplit

GOOGLE = "https://generativelanguage.googleapis.com"
# The Gemini API; Vertex AI's global endpoint, its regions and multi-regions; the same with client
# certificates (google-genai 3.6.1, `_api_client.py`, 2026-11-18).
_is_google = re.compile(
    r"(?:generativelanguage|(?:[a-z0-9-]+-)?aiplatform)(?:\.mtls)?\.googleapis\.com"
    r"|aiplatform\.[a-z]+\.rep(?:\.mtls)?\.googleapis\.com"
).fullmatch


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
