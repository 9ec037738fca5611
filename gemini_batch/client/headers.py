"""The headers of an answer that matter: Retry-After, and Location."""

import email.utils
import re
from datetime import UTC, datetime

import aiohttp
from yarl import URL

# Longest valid number in a Retry-After: a wait of more than a century is a mistake.
_MAX_RETRY_AFTER_DIGITS = 9
_MAX_HOST_CHARS = 253
# A later year is a mistake, and adding to a date at the end of the calendar overflows.
_MAX_YEAR = 9000


def location_host(response: aiohttp.ClientResponse) -> str:
    """Return the host and port of a redirect; path and query may hold secrets."""
    location = response.headers.get("Location")
    if location is None or response.status // 100 != 3:
        return ""
    try:
        return (response.url.join(URL(location)).host_port_subcomponent or "")[:_MAX_HOST_CHARS]
    except ValueError:
        return "no valid address"


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header, a number or a date; None for anything else.

    Gateways send fractions, and a proxy joins two headers to one: the longest wait counts.
    """
    if value is None:
        return None
    numbers = [each.strip() for each in value.split(",")]
    if all(re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", each) for each in numbers):
        waits = [float(each) for each in numbers if len(each) <= _MAX_RETRY_AFTER_DIGITS]
        return max(waits, default=None)
    at = http_date(value)
    return max(0.0, (at - now).total_seconds()) if at else None


def http_date(value: str) -> datetime | None:
    """Return the UTC time of an HTTP date; None for anything else."""
    try:
        parsed = email.utils.parsedate_to_datetime(value)
        at = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, IndexError):  # all three happen: the parser is for mail
        return None
    return at if at.year <= _MAX_YEAR else None
