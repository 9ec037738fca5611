"""What an answer's headers say, as far as it matters here; whatever else stands in them is left alone."""

import email.utils
import re
from datetime import UTC, datetime
from functools import lru_cache

import aiohttp
from yarl import URL

# Longest Retry-After number that is one: past a century it is a mistake.
_MAX_RETRY_AFTER_DIGITS = 9
_MAX_HOST_CHARS = 253
# A date in a later year is a mistake, and the end of the calendar is too near to count on from it.
_MAX_YEAR = 9000


def location_host(response: aiohttp.ClientResponse) -> str:
    """Return the host and port that a redirect points to, and no more of it: path and query may hold what is nobody's business."""
    location = response.headers.get("Location")
    if location is None or response.status // 100 != 3:
        return ""
    try:
        return (response.url.join(URL(location)).host_port_subcomponent or "")[:_MAX_HOST_CHARS]
    except ValueError:
        return "no valid address"


@lru_cache(maxsize=8)  # it changes once a second
def http_date(value: str | None) -> datetime | None:
    """Return the UTC moment of a header; None for one that is none, or that no calendar has."""
    if not value:
        return None
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        at = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (
        ValueError,
        OverflowError,
        IndexError,
    ):  # the parser was written for mail, and raises of several kinds
        return None
    return at if at.year <= _MAX_YEAR else None


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date; None for anything else."""
    if value is None:
        return None
    if re.fullmatch(r"[0-9]+", text := value.strip()):
        return float(text) if len(text) <= _MAX_RETRY_AFTER_DIGITS else None
    at = http_date(value)
    return max(0.0, (at - now).total_seconds()) if at else None
