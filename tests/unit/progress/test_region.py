import pytest

from gemini_batch.progress.region import Region, Row
from tests.unit.progress.builders import Screen


def rows(*texts: str) -> list[Row]:
    """Return rows without colours."""
    return [(text, len(text)) for text in texts]


def test_the_region_is_painted_in_place_and_lines_stay_above_it() -> None:
    """Each frame replaces the one before, with any number of rows; lines stay above."""
    screen, region = Screen(40), Region()
    screen.feed(region.frame("first\n", rows("a", "b"), 40))
    assert screen.lines == ["first", "a", "b"]
    screen.feed(region.frame("second\n", rows("c", "d", "e"), 40))
    assert screen.lines == ["first", "second", "c", "d", "e"]
    screen.feed(region.frame("", rows("f"), 40))
    assert screen.lines == ["first", "second", "f"]
    screen.feed(region.frame("", [], 40))
    assert screen.lines == ["first", "second", ""]


@pytest.mark.parametrize("columns", [200, 60, 31, 20, 7])
def test_a_terminal_of_another_width_keeps_no_trace_of_the_last_frame(columns: int) -> None:
    """If the terminal wraps the rows again, all of them are erased."""
    screen, region = Screen(80), Region()
    screen.feed(region.frame("above\n", rows("x" * 79, "", "y" * 30, "z" * 79), 80))
    screen.columns = columns
    screen.feed(region.frame("", rows("now"), columns))
    assert screen.lines == ["above", "now"]


def test_a_frame_that_shows_nothing_new_writes_nothing() -> None:
    """An unchanged run sends no byte to the terminal."""
    region = Region()
    assert region.frame("", rows("a", "b"), 80)
    assert region.frame("", rows("a", "b"), 80) == ""
    assert region.frame("said\n", rows("a", "b"), 80)


def test_after_a_shell_wrote_below_it_the_region_starts_again() -> None:
    """Text that a shell wrote while the run was stopped is not painted over."""
    screen, region = Screen(80), Region()
    screen.feed(region.frame("", rows("a", "b"), 80))
    screen.feed("\n$ fg\n")
    region.forget()
    screen.feed(region.frame("", rows("c", "d"), 80))
    assert screen.lines == ["a", "b", "$ fg", "c", "d"]
