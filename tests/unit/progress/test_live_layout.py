from datetime import timedelta

import pytest

from gemini_batch.events import BatchSeen, Stopping, Waiting
from gemini_batch.progress.forecast import Forecast
from gemini_batch.progress.live_layout import rows_of
from gemini_batch.progress.run_state import RecentError, RunSnapshot
from gemini_batch.quota.results import UNKNOWN
from gemini_batch.records import Limits, Status, Stop, StopReason
from tests.builders import MODEL
from tests.unit.progress.builders import NOON, snapshot, used

FULL = snapshot(
    waiting=Waiting(MODEL, 23.4, "60 requests a minute"),
    errors=(
        RecentError("HTTP 500: internal", 1, "set/n1", 940.0),
        RecentError(
            "HTTP 503: the model is overloaded, please try again later", 12, "set/n17", 997.0
        ),
    ),
    forecast=Forecast(None, False, 4800.0, 320, 1, 20 * 3600.0),
)


def seen(
    of: RunSnapshot, columns: int = 80, lines: int = 24, name: str = "jobs.jsonl"
) -> list[str]:
    """Return the visible rows."""
    return [row.plain for row in rows_of(name, of, columns, lines)]


def row(label: str, of: RunSnapshot, columns: int = 80) -> str:
    """Return the text next to a label, with its further rows."""
    rows = seen(of, columns)
    first = next(number for number, text in enumerate(rows) if text.startswith(f" {label}"))
    found = [rows[first]]
    for text in rows[first + 1 :]:
        if not text.startswith("   "):
            break
        found.append(text)
    return " ".join(text[9:].strip() for text in found)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_all_rows_fit_at_every_width(columns: int) -> None:
    """Bar, counts, time, wait, pace, cost, each limit and the last errors fit into the terminal."""
    rows = seen(FULL, columns)
    assert all(len(text) < columns for text in rows)
    assert rows[1].startswith(" jobs.jsonl ")
    assert rows[1].endswith(" 3 min 12 s")
    assert rows[2].endswith("148 of 300   49 %")
    assert rows[3].split() == ["145", "succeeded", "2", "blocked", "1", "failed", "152", "left"]
    assert row("time", FULL, columns).replace(" · ", " ") == (
        "today until 13:20, then 320 left tomorrow from Mon 08:00"
    )
    assert row("now", FULL, columns) == "waiting 23 s: 60 requests a minute"
    assert (
        row("pace", FULL, columns).replace(" · ", " ")
        == "58 images a minute 8 in flight 2 to retry"
    )
    assert (
        row("cost", FULL, columns).replace(" · ", " ")
        == "$19.83 so far about $40.20 at the end, at list price"
    )
    assert "60 of    60" in row("quota", FULL, columns)
    assert "1,240 of 1,500" in row("quota", FULL, columns)
    assert row("errors", FULL, columns).startswith("11:59:57  HTTP 503: the model is over")


def test_a_wide_terminal_does_not_stretch_the_rows() -> None:
    """Rows have at most a hundred cells; only errors may be longer."""
    long = snapshot(errors=(RecentError("x" * 150, 1, "n1", 999.0),))
    rows = seen(long, 200)
    assert max(len(text) for text in rows[:-1]) <= 100
    assert "x" * 150 in rows[-1]


def test_nothing_moves_when_a_number_gets_longer() -> None:
    """The counts and the end of the bar keep their places from the first call to the last."""
    few = seen(snapshot(by_status={Status.SUCCEEDED: 1}, left=299))
    many = seen(
        snapshot(by_status={Status.SUCCEEDED: 190, Status.BLOCKED: 9, Status.FAILED: 99}, left=2)
    )
    assert few[2].index(" of 300") == many[2].index(" of 300")
    assert few[3].index("0 blocked") == many[3].index("9 blocked")
    assert few[3].index("0 failed") == many[3].index("99 failed")
    assert few[3].index("299 left") == many[3].index("2 left")


@pytest.mark.parametrize("ended", [0, 1, 149, 299, 300])
@pytest.mark.parametrize("columns", [20, 60, 200])
def test_the_bar_shows_every_kind_of_end_and_is_full_only_at_the_end(
    ended: int, columns: int
) -> None:
    """One failure of three hundred is visible, and so is one call left."""
    bad = {Status.FAILED: 1} if ended else {}
    of = snapshot(by_status={Status.SUCCEEDED: ended - len(bad), **bad}, left=300 - ended)
    bar = rows_of("jobs.jsonl", of, columns, 24)[2]
    styles = {str(span.style) for span in bar.spans if bar.plain[span.start : span.end].strip("─ ")}
    assert ("red" in styles) == bool(ended)
    assert ("─" in bar.plain) == (ended < 300)


def test_a_terminal_of_a_few_lines_shows_what_matters_the_most() -> None:
    """One line above stays visible, and the bar is among the first rows."""
    assert len(seen(FULL, 80, 6)) == 5
    assert any("148 of 300" in text for text in seen(FULL, 80, 6))


def test_ctrl_c_is_answered_and_counts_down() -> None:
    """Time and cost of calls that will not be sent are not shown."""
    stopping = Stopping(Stop(StopReason.INTERRUPTED, "interrupted"), 12)
    of = snapshot(stopping=stopping, in_flight=12)
    assert row("now", of) == "finishing 12 calls already paid for; Ctrl-C again to abandon them"
    assert row("now", snapshot(stopping=stopping, in_flight=1)) == (
        "finishing 1 call already paid for; Ctrl-C again to abandon it"
    )
    assert row("time", of) == "140 calls left for another run"
    assert row("cost", of) == "$19.83 so far, at list price"


def test_one_model_whose_day_is_over_does_not_stop_the_others() -> None:
    """The reason is shown, and the time of the other models."""
    stopping = Stopping(Stop(StopReason.DAY_CLOSED, "today's quota of x is used up"), 12, "x")
    assert (
        row("now", snapshot(stopping=stopping))
        == "today's quota of x is used up; other models continue"
    )
    assert row("time", snapshot(stopping=stopping)).startswith("about ")


def test_every_kind_of_wait_is_named() -> None:
    """Answers, the first call, or nothing; with several models, which one waits."""
    assert row("now", snapshot()) == "waiting for 8 answers"
    assert row("now", snapshot(in_flight=0)) == "waiting to send the next call"
    assert row("now", snapshot(in_flight=0, left=300)) == "starting to send"
    assert row("now", snapshot(in_flight=0, left=0)) == "all calls have ended"
    assert row("now", snapshot(waiting=Waiting(MODEL, 0.3, "why"))) == "waiting for 8 answers"
    assert (
        row("now", snapshot(models=2, waiting=Waiting("m", 23.0, "why"))) == "waiting 23 s: why · m"
    )


def test_each_limit_that_is_set_has_a_gauge() -> None:
    """Requests, images, tokens and dollars, for each of several models; unknown usage is stated."""
    limits = Limits(
        requests_per_min=15,
        requests_per_day=1500,
        tokens_per_min=100_000,
        images_per_min=20,
        usd_per_10min=10.0,
        usd_per_day=50.0,
    )
    of = snapshot(
        used={
            "a": used(limits, 15, 3, 1_234, 9_420_000, 1500, 0),
            "b": used(limits, *[UNKNOWN] * 6),
        }
    )
    text = "\n".join(seen(of, 100, 40))
    for label in ("requests a minute", "images a minute", "tokens a minute", "dollars in ten minutes", "requests a day", "dollars a day"):  # fmt: skip
        assert text.count(label) == 2 + (label == "images a minute")
    assert "$9.42 of  $10.00" in text
    assert text.count("unknown of ") == 6
    assert " quota   a\n" in text


def test_a_minute_that_is_full_is_no_warning_and_a_day_is() -> None:
    """A full minute is the goal of a run, a full day is not."""
    full = snapshot(
        used={MODEL: used(Limits(requests_per_min=60, requests_per_day=1500), 60, 1500)}
    )
    minute, day = (
        each for each in rows_of("jobs.jsonl", full, 100, 24) if "requests a" in each.plain
    )
    assert "yellow" not in {str(span.style) for span in minute.spans}
    assert "yellow" in {str(span.style) for span in day.spans}


def test_untrusted_text_is_text() -> None:
    """Escape sequences and markup in an id, a message or a path have no effect."""
    hostile = "\x1b[2J[red]x[/red]\x9b1m\n"
    of = snapshot(
        errors=(RecentError(hostile, 1, hostile, 999.0),),
        waiting=Waiting(hostile, 9.0, hostile),
        models=2,
        used={hostile: used(Limits(requests_per_min=1), 1), "b": ()},
    )
    rows = rows_of(hostile, of, 120, 40)
    assert all(each.plain.isprintable() for each in rows)
    assert sum("[red]x[/red]" in each.plain for each in rows) >= 4


def test_a_long_path_shows_its_end() -> None:
    """The last part of `/home/…/nightly.jsonl` matters most."""
    title = seen(snapshot(), 60, name="/home/" + "folder/" * 20 + "nightly.jsonl")[1]
    assert title.startswith(" …")
    assert "/nightly.jsonl  " in title
    assert len(title) < 60


def test_a_run_without_limits_or_prices_has_no_gauge_and_says_that_the_cost_is_unknown() -> None:
    """An unknown cost is never shown as $0."""
    of = snapshot(used={MODEL: ()}, projected_usd=None, unpriced=3, cost_usd=0.0)
    assert not any("quota" in text for text in seen(of))
    assert row("cost", of) == "$0.00 and 3 of unknown cost so far · cost unknown"


def test_times_of_errors_are_local() -> None:
    """An error has its time by the wall clock."""
    of = snapshot(now=FULL.now + timedelta(hours=1), errors=(RecentError("x", 1, "n1", 999.0),))
    assert "12:59:59  x  n1" in row("errors", of)


def test_each_open_batch_has_a_bar() -> None:
    """Of the requests that have ended by the server's count; of many, the oldest ones."""
    since = NOON - timedelta(hours=1)
    batches = tuple(
        BatchSeen(f"batches/{number}", MODEL, 480, done, "RUNNING", since)
        for number, done in enumerate((None, 0, 240, 480, 1, 2, 3, 4))
    )
    rows = seen(snapshot(batches=batches, in_flight=0, waiting=None), lines=40)
    found = [row for row in rows if "480 calls · running" in row]
    assert [row.count("━") for row in found] == [0, 0, 8, 16, 0, 0]
    assert any("240 of 480 calls" in row for row in found)
    assert any("and 2 more" in row for row in rows)
    assert any("waiting for 3,840 calls in batches" in row for row in rows)
    assert any("within 24 hours" in row for row in rows)
