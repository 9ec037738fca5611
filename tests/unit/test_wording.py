"""Money and times in messages."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gemini_batch.wording import local_time, usd

PACKAGE = Path(__file__).parents[2] / "gemini_batch"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "cost unknown"),
        (0.0, "$0.00"),
        (0.000_4, "less than $0.001"),
        (0.000_5, "$0.001"),
        (0.134_4, "$0.134"),
        (0.999_4, "$0.999"),
        (0.999_6, "$1.00"),
        (1.344, "$1.34"),
        (26_880.0, "$26,880.00"),
    ],
)
def test_money(amount: float | None, text: str) -> None:
    """Money has cents, and three digits below a dollar; an unknown or tiny amount is never $0."""
    assert usd(amount) == text


def test_money_is_written_in_one_place() -> None:
    """No other module writes dollars, so that all of them look the same. The simulator is a server of its own."""
    places = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"\$\{|\"\$\" \+", path.read_text("utf-8"))
    }
    assert {each for each in places if not each.startswith("simulator/")} == {
        "wording.py",
        "cli/help_texts.py",  # fpath of zsh
    }


def test_a_time_has_its_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time is that of the user, with the name of the zone."""
    import time

    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    try:
        noon = datetime(2026, 11, 22, 20, 0, 5, tzinfo=UTC)
        assert local_time(noon) == "2026-11-23 05:00 JST"
        assert local_time(noon, seconds=True) == "2026-11-23 05:00:05 JST"
    finally:
        monkeypatch.undo()
        time.tzset()
