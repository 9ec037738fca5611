"""Pages of a list: a page token names the last item of the page before it."""

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TypeVar

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.bodies import ErrorBody

T = TypeVar("T")


def page(
    items: Iterable[T],
    number: Callable[[T], int],
    query: Mapping[str, str],
    *,
    method: str,
    size: int,
    max_size: int,
) -> tuple[list[T], str | None] | ErrorBody:
    """Return the items of the page that a query asks for, and the token of the next page.

    Args:
        items: All items; their numbers fall.
        number: Number of an item.
        query: Has `pageSize` and `pageToken`, or not.
        method: Name of the request's message, for errors.
        size: Items of a page if the query does not say.
        max_size: Items of the largest page.
    """
    violations: schema.Violations = []
    wanted = schema.read(schema.INT32, query.get("pageSize") or "0", "page_size", violations)
    if violations:
        return bodies.bad_fields(violations)
    if wanted < 0:
        return bodies.bad_argument(f"{method}.page_size: must not be negative")  # derived
    below = _number(query["pageToken"]) if query.get("pageToken") else None
    if below is None and query.get("pageToken"):
        return bodies.bad_argument(f"{method}.page_token: is none of this method's")  # derived
    rest = (item for item in items if below is None or number(item) < below)
    shown = list(islice(rest, min(wanted or size, max_size) + 1))
    if len(shown) <= min(wanted or size, max_size):
        return shown, None
    shown.pop()
    return shown, base64.urlsafe_b64encode(f"after/{number(shown[-1])}".encode()).decode()


def _number(token: str) -> int | None:
    try:
        text = base64.urlsafe_b64decode(token).decode()
    except (binascii.Error, ValueError):
        return None
    digits = text.removeprefix("after/")
    return int(digits) if digits.isdecimal() and digits != text else None
