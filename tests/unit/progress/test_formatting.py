import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.progress.formatting import about, count, plain, whole_span


@given(st.text(st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    """Untrusted text becomes one line without control characters and bidirectional marks."""
    shown = plain(text)
    assert {unicodedata.category(each) for each in shown if each not in "\u200c\u200d"}.isdisjoint(
        {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("robot", "robot"),
        ("Größe 木 👩‍👩‍👧", "Größe 木 👩‍👩‍👧"),
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc\u2028d", "a b c d"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("half \udc80", "half \\udc80"),
        ("[red]text[/red]", "[red]text[/red]"),
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str, shown: str) -> None:
    """Text of every script stays readable, and escaped characters are recognisable."""
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "5 s"), (7, "5 s"), (42, "40 s"), (95, "1 min 30 s"), (290, "5 min"), (1234, "21 min"), (7800, "2 h 10 min"), (7200, "2 h")],
)  # fmt: skip
def test_an_estimate_is_no_finer_than_it_is_worth(seconds: float, text: str) -> None:
    """An estimate is rounded so that it changes rarely."""
    assert about(seconds) == text


def test_numbers_have_units_and_plurals() -> None:
    """One call, twelve calls; a countdown has whole units."""
    assert [count(number, "call") for number in (0, 1, 1200)] == [
        "0 calls",
        "1 call",
        "1,200 calls",
    ]
    assert [whole_span(seconds) for seconds in (8.7, 61, 7385)] == ["9 s", "1 min 1 s", "2 h 3 min"]
