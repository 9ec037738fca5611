import time
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    CallHeld,
    CallNotReused,
    CallRetrying,
    Event,
    LittleRoom,
    ManifestWarning,
    Repaired,
    Stopping,
    Waiting,
)
from gemini_batch.progress.final_report import final_report
from gemini_batch.progress.formatting import tier_label
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.text_log import TextLog
from gemini_batch.records import Limits, Status, Stop, StopReason
from tests.builders import MODEL
from tests.unit.progress.builders import (
    AGAIN,
    NOON,
    Paper,
    Times,
    finished,
    run_info,
    started,
    summary,
)

LIMITS = Limits(requests_per_min=15, requests_per_day=1500)
INTERRUPTED = Stop(StopReason.INTERRUPTED, "interrupted")


class Desk:
    """A text log whose lines are kept, with its clock."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.times = Times()
        self.paper = Paper[str]()
        self.lines = TextLog(
            run_info(self.times, is_quiet=is_quiet),
            RunState(LIMITS),
            self.paper.write,
            self.paper.flush,
        )

    def happen(self, *events: Event) -> list[str]:
        """Observe events; return the lines."""
        return self._said(*(lambda event=event: self.lines.observe(event) for event in events))

    def ask(self) -> list[str]:
        """Let a minute pass; return the lines."""
        self.times.pass_by(60.0)
        return self._said(lambda: self.lines.update(Sample()))

    def end(self, of: Summary) -> list[str]:
        """End the run; return the lines."""
        return self._said(lambda: self.lines.end(of))

    def _said(self, *deeds: Any) -> list[str]:
        before = len(self.paper.lines)
        for deed in deeds:
            deed()
        return self.paper.lines[before:]


def test_a_run_is_a_line_at_the_start_one_at_the_end_and_one_a_minute_at_the_most() -> None:
    """A cron mail is short: retries and waits are only in the line of the minute."""
    desk = Desk()
    (start,) = desk.happen(started(300))
    assert start.split(" · ") == [
        "jobs.jsonl: 300 calls to send",
        "$40.20 at list price (image models have no free quota: the project needs billing)",
        "tier free: at least 20 min, limited by 15 requests a minute",
        "output in jobs.out",
    ]
    happened: list[Event] = [finished(f"n{number}") for number in range(20)]
    happened += [finished("x", Status.BLOCKED), Waiting(MODEL, 90.0, "15 requests a minute")]
    happened += [
        CallRetrying("y", 1, 5.0, "overloaded", may_be_billed=False, reason="503 UNAVAILABLE")
    ]
    assert desk.happen(*happened) == []
    (progress,) = desk.ask()
    assert progress.split(" · ") == [
        "21 of 300: 20 succeeded, 1 blocked",
        "$2.81",
        "about 19 min, until 12:19",
        "1 to retry",
        "waiting 30 s: 15 requests a minute",
    ]
    assert desk.end(summary()) == [
        "300 succeeded · $39.80 at list price, estimated $40.20 · 12 min 4 s · results in jobs.out"
    ]


def test_a_minute_without_change_has_no_line() -> None:
    """A night of waiting for the reset is one line, not five hundred."""
    desk = Desk()
    desk.happen(started(), finished("a"), Waiting(MODEL, 30_000.0, "1,500 requests a day"))
    assert len(desk.ask()) == 1
    assert [line for _ in range(400) for line in desk.ask()] == []


def test_a_model_whose_day_is_over_does_not_silence_the_others() -> None:
    """The others continue, and so do the lines; when the run stops, only its end is written."""
    desk, stop = Desk(), Stop(StopReason.DAY_CLOSED, "used up")
    desk.happen(started(), Stopping(stop, 2, MODEL), finished("a"))
    assert len(desk.ask()) == 1
    desk.happen(Stopping(stop, 2), finished("b"))
    assert desk.ask() == []


@pytest.mark.parametrize(
    ("tier", "label"), [("free", "tier free"), ("tier-2", "tier-2"), ("ours", "tier ours")]
)
def test_a_tier_is_called_a_tier_once(tier: str, label: str) -> None:
    """The names of Google's paid tiers begin with the word already."""
    assert tier_label(tier) == label


@pytest.mark.parametrize(
    ("exit_code", "changes", "last"),
    [
        (
            ExitCode.INCOMPLETE,
            {"by_status": {"failed": 1}},
            f"run again to retry the failed calls: {AGAIN}",
        ),
        (
            ExitCode.INCOMPLETE,
            {"by_status": {"rejected": 1}},
            f"edit the rejected lines, then run again: {AGAIN}",
        ),
        (
            ExitCode.INCOMPLETE,
            {"held": {"later": 1}},
            "add the calls whose pictures they use to --only, or leave --only out, then run: "
            + AGAIN,
        ),
        (
            ExitCode.INCOMPLETE,
            {"held": {"later": 1, "blocked": 1}},
            "edit the calls whose pictures are missing, or send them again (--retry, --redo), then run again: "
            + AGAIN,
        ),
        (
            ExitCode.REFUSED,
            {"stops": [{"reason": "auth"}]},
            f"fix the problem above, then run: {AGAIN}",
        ),
        (
            ExitCode.STOPPED,
            {"stops": [{"reason": "billing"}]},
            f"fix the problem above, then run: {AGAIN}",
        ),
        (ExitCode.STOPPED, {"stops": [{"reason": "outage"}]}, f"run again to continue: {AGAIN}"),
        (ExitCode.INTERRUPTED, {"left": 3}, f"run again to continue: {AGAIN}"),
    ],
)
def test_the_last_line_is_what_to_do_next(
    exit_code: ExitCode, changes: dict[str, Any], last: str
) -> None:
    """After every kind of problem the last line is the next command."""
    assert Desk().end(summary(exit_code, **changes))[-1] == last


@pytest.mark.parametrize("code", [ExitCode.STOPPED, ExitCode.INTERRUPTED, ExitCode.TERMINATED])
def test_a_run_that_leaves_batches_says_how_many_calls_wait(code: ExitCode) -> None:
    """Also after Ctrl-C: the batches continue without the run."""
    stops = [{"reason": "waiting", "message": "40 calls wait in 1 batch since 08:10 UTC"}]
    over = summary(code, left=40, waiting=40, stops=stops, run_again_at=NOON)
    until = "40 calls wait in 1 batch since 08:10 UTC; run again from 2026-11-22 12:00 UTC"
    assert Desk().end(over)[-1] == f"{until}: {AGAIN}"
    part = summary(code, left=100, waiting=40, stops=stops, run_again_at=NOON)
    assert Desk().end(part)[-1] == f"{until} to collect them and to send the other 60: {AGAIN}"


def test_a_run_that_only_submitted_says_so() -> None:
    """It is not said to have finished nothing; one that only looked at batches did."""
    stops = [{"reason": "waiting", "message": "40 calls wait in 1 batch since 08:10 UTC"}]
    more = {"left": 40, "waiting": 40, "stops": stops, "run_again_at": NOON}
    over = summary(ExitCode.STOPPED, this_run={"submitted": 40, "by_status": {}}, **more)
    said = "\n".join(Desk().end(over))
    assert "40 submitted in batches · 40 of" in said
    assert "nothing finished" not in said
    looked = summary(ExitCode.STOPPED, this_run={"by_status": {}}, **more)
    assert "nothing finished · 40 of" in "\n".join(Desk().end(looked))
    titles = [
        f"{next(islice(final_report(each, run_info(Times())), 1, 2))}" for each in (over, looked)
    ]
    assert [title.partition(" in ")[0] for title in titles] == ["submitted", "looked at batches"]


def test_a_day_that_is_over_says_from_when_on_to_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is in the time zone of the user, and has its name."""
    over = summary(ExitCode.STOPPED, left=3, run_again_at=NOON + timedelta(hours=20))
    assert Desk().end(over)[-1] == f"run again after 2026-11-23 08:00 UTC: {AGAIN}"
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    assert Desk().end(over)[-1] == f"run again after 2026-11-23 17:00 JST: {AGAIN}"


def test_failures_are_named_with_their_reason_and_only_the_first_of_many() -> None:
    """The mail has the reasons, and stays short."""
    unfinished = [
        {"id": f"n{n}", "line": n + 1, "status": "failed", "message": "HTTP 503: overloaded"}
        for n in range(10)
    ]
    run = {"by_status": {"failed": 12}, "unfinished": unfinished}
    said = Desk().end(summary(ExitCode.INCOMPLETE, this_run=run))
    assert said[1:-1] == [
        *(f"  n{n} (line {n + 1}): failed: HTTP 503: overloaded" for n in range(5)),
        "  and 7 more: see their rows in results.jsonl",
    ]


def test_quiet_says_nothing_on_success() -> None:
    """Not even a repair is mentioned."""
    desk = Desk(is_quiet=True)
    desk.happen(
        Repaired("3 images got their names"),
        ManifestWarning("jobs.jsonl:1: request.x: not a field"),
        started(),
        CallNotReused("a", "is gone"),
        CallHeld("b", "b is not sent: images/a.png is gone"),
        finished("a"),
        LittleRoom("o"),
    )
    desk.lines.warn("strange")
    desk.ask()
    desk.end(summary())
    assert desk.paper.lines == []


def test_quiet_says_what_is_paid_for_again() -> None:
    """A mishap that costs a call once more is said in a quiet run too, also if it ends well."""
    desk = Desk(is_quiet=True)
    desk.happen(Repaired("a: its image did not survive", pays=True), started(), finished("a"))
    desk.end(summary())
    assert desk.paper.lines == ["a: its image did not survive"]


def test_quiet_explains_an_end_that_requires_action() -> None:
    """Repairs, the reason of the stop, failures and the next step are written as without --quiet."""
    desk = Desk(is_quiet=True)
    stop = Stop(StopReason.NO_QUOTA, "the server keeps answering 429")
    warning = "jobs.jsonl:1: request.x: not a field"
    repaired = Repaired("3 images got their names")
    desk.happen(repaired, ManifestWarning(warning), started(), Stopping(stop, 2))
    said = desk.end(summary(ExitCode.STOPPED, left=3))
    assert said[:2] == ["3 images got their names", warning]
    assert said[2] == "stopping: the server keeps answering 429; finishing 2 calls already paid for"
    assert said[-1] == f"run again to continue: {AGAIN}"


def test_ctrl_c_in_a_quiet_run_is_answered_at_once() -> None:
    """Ctrl-C is answered before the end."""
    desk = Desk(is_quiet=True)
    assert desk.happen(Stopping(INTERRUPTED, 12)) == [
        "stopping: interrupted; finishing 12 calls already paid for; Ctrl-C again to abandon them"
    ]


def test_the_answer_to_a_signal_does_not_ask_cron_to_press_a_key() -> None:
    """SIGTERM comes from no keyboard."""
    assert Desk().happen(Stopping(Stop(StopReason.TERMINATED, "asked to end"), 1)) == [
        "stopping: asked to end; finishing 1 call already paid for"
    ]
    assert Desk().happen(Stopping(INTERRUPTED, 0)) == ["stopping: interrupted"]


def test_untrusted_text_is_escaped() -> None:
    """An escape sequence in an id or a message reaches no terminal, and cannot forge a line."""
    desk = Desk()
    desk.happen(Repaired("a\x1b[2Jb\nc"))
    unfinished = [{"id": "i\x9bd", "line": 1, "status": "failed", "message": "no\r\x1b]0;x\x07"}]
    desk.end(
        summary(
            ExitCode.INCOMPLETE, this_run={"by_status": {"failed": 1}, "unfinished": unfinished}
        )
    )
    assert desk.paper.lines[0] == "a\\x1b[2Jb c"
    assert "  i\\x9bd (line 1): failed: no \\x1b]0;x\\x07" in desk.paper.lines
    assert all(line.isprintable() for line in desk.paper.lines)


def test_nothing_to_do_is_one_line() -> None:
    """A second run reports that all is done, and where."""
    done = summary(this_run={"finished": 0, "by_status": {}})
    assert Desk().end(done) == ["jobs.jsonl: nothing to do: all 300 calls are done, in jobs.out"]
