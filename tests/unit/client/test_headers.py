"""Retry-After, and dates."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client import headers

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        (" 34 ", 34.0),
        ("Sun, 22 Nov 2026 12:01:30 GMT", 90.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 14:00:30 +0200", 30.0),
        ("1.5", 1.5),
        ("120, 120", 120.0),
        ("2.5 ,30,7", 30.0),
        ("1.", None),
        ("1e3", None),
        ("5, soon", None),
        ("-1", None),
        ("soon", None),
        ("²", None),
        ("9" * 400, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, expected: float | None) -> None:
    """Retry-After is parsed in both of its forms; anything else is ignored."""
    assert expected == headers.retry_after_s(value, NOON)


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ ([+-]\d+|GMT)"))
@example("Fri, 31 Dec 9999 23:59:59 -0100")
@example("Mon, 01 Jan 0001 00:00:00 +0100")
@example(" ")
@example("Sun, 22 Nov 2026 12:00:00 +9999999999")
def test_any_date_is_parsed_or_ignored(value: str) -> None:
    """A date never raises, and the result is UTC."""
    at = headers.http_date(value)

    assert at is None or timedelta(0) == at.utcoffset()


@pytest.mark.parametrize(
    "value", ["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 9001 00:00:00 GMT"]
)
def test_a_date_at_the_end_of_the_calendar_is_ignored(value: str) -> None:
    """Adding to such a date would overflow."""
    assert headers.http_date(value) is None
