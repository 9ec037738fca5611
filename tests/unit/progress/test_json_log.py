import json
import re
from collections import Counter
from typing import Any

import pytest

from gemini_batch.errors import ExitCode
from gemini_batch.events import (
    BatchNotice,
    BatchSeen,
    CallAbandoned,
    CallHeld,
    CallNotReused,
    CallRetrying,
    CallSent,
    CallUnanswered,
    Event,
    LedgerNotice,
    LittleRoom,
    ManifestWarning,
    ModelReplaced,
    Repaired,
    Stopping,
    Waiting,
)
from gemini_batch.progress import json_log
from gemini_batch.progress.json_log import JsonLog, error_line
from gemini_batch.progress.run_state import RunState, Sample
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
    used,
)

LIMITS = Limits(requests_per_min=15, requests_per_day=1500)
DAY_CLOSED = Stop(StopReason.DAY_CLOSED, "used up", NOON)
ALL: list[Event] = [
    Repaired("3 images got their names"),
    LedgerNotice("postgresql://db/quota: the ledger can't be reached"),
    ManifestWarning("jobs.jsonl:1: request.x: not a field"),
    started(300),
    CallNotReused("a", "is gone"),
    CallHeld("b", "b is not sent: images/a.png is gone"),
    CallSent("a", 1, MODEL),
    CallUnanswered("a", 1, "the connection broke"),
    CallRetrying("a", 1, 5.0, "the connection broke", may_be_billed=True, reason="503 UNAVAILABLE"),
    Waiting(MODEL, 23.0, "15 requests a minute"),
    CallAbandoned("c"),
    finished("a"),
    ModelReplaced(MODEL, "gemini-3-pro-image", "is gone"),
    LittleRoom("jobs.out"),
    Stopping(DAY_CLOSED, 2, MODEL),
    BatchSeen("batches/1", MODEL, 480, 20, "RUNNING", NOON),
    BatchNotice("batches/1: 1 call has no answer"),
]


class Log:
    """A JSON log whose lines are kept."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self.times, self.paper = Times(), Paper[str]()
        self.view = JsonLog(
            run_info(self.times, is_quiet=is_quiet),
            RunState(LIMITS),
            self.paper.write,
            self.paper.flush,
        )

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The logged objects."""
        return [json.loads(line) for line in self.paper.lines]


@pytest.fixture
def log() -> Log:
    """Return a log."""
    return Log()


def test_names_and_fields_of_events_are_those_of_the_table(log: Log) -> None:
    """Every event is one object with the documented fields in their order."""
    for event in ALL:
        log.view.observe(event)
    log.view.update(Sample(3, {MODEL: used(LIMITS, 3, 3)}))
    log.view.warn("strange")
    log.view.end(summary())
    logged = {line["event"]: list(line)[2:] for line in log.lines}
    logged |= {
        "error": list(json.loads(error_line(ExitCode.BAD_INPUT, "no")))[2:],
        "lines_left_out": ["number"],
    }
    assert json_log.__doc__ is not None
    documented = re.findall(
        r"^- `(\w+)` \(.*?\):\s+`(.*?)`", json_log.__doc__, re.DOTALL | re.MULTILINE
    )
    named = {event: [_name(field) for field in _split(fields)] for event, fields in documented}
    assert logged == named


def _split(fields: str) -> list[str]:
    """Split at the commas that are not inside braces."""
    parts, depth = [""], 0
    for character in fields:
        depth += (character == "{") - (character == "}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _name(field: str) -> str:
    return field.strip().split("[")[0].split("{")[0]


def test_each_call_ends_in_one_line(log: Log) -> None:
    """With its status, cost and reason, and without its prompt."""
    for number in range(3):
        log.view.observe(finished(f"n{number}", Status.FAILED, "overloaded"))
    assert Counter(line["event"] for line in log.lines) == {"call_finished": 3}
    line = log.lines[0]
    assert (line["at"], line["id"], line["status"]) == ("2026-11-22T12:00:00.000Z", "n0", "failed")
    assert (line["http_status"], line["message"], line["cost_usd"]) == (503, "overloaded", 0.134)
    assert "A robot" not in log.paper.lines[0]


def test_a_wait_is_logged_once_and_short_ones_never(log: Log) -> None:
    """Each waiting call reports the same wait; a pipeline counts it once."""
    for _ in range(10):
        log.view.observe(Waiting(MODEL, 23.0, "15 requests a minute"))
        log.view.observe(Waiting(MODEL, 0.2, "15 requests a minute"))
        log.times.pass_by(0.1)
    assert len(log.lines) == 1
    log.times.pass_by(60.0)
    log.view.observe(Waiting(MODEL, 23.0, "15 requests a minute"))
    assert len(log.lines) == 2


def test_quiet_logs_only_what_requires_action() -> None:
    """Nothing on success; otherwise the repair, the reason of the stop, and the end."""
    well, badly = Log(is_quiet=True), Log(is_quiet=True)
    for log in (well, badly):
        for event in ALL:
            log.view.observe(event)
        log.view.update(Sample())
    well.view.end(summary())
    badly.view.end(summary(ExitCode.STOPPED, left=3))
    assert well.lines == []
    assert [line["event"] for line in badly.lines] == [
        "repaired",
        "ledger_notice",
        "manifest_warning",
        "call_not_reused",
        "call_held",
        "model_replaced",
        "little_room",
        "stopping",
        "batch_notice",
        "run_ended",
    ]
    assert (badly.lines[-1]["exit_code"], badly.lines[-1]["next"]) == (5, AGAIN)


def test_a_line_is_ascii_with_any_untrusted_text(log: Log) -> None:
    """Escape sequences, line ends and surrogates are escaped, and read back unchanged."""
    text = "a\x1b[2J\x7f\x9b\u2028\nü\ud800"
    log.view.observe(Repaired(text))
    assert log.paper.lines[0].isascii()
    assert log.paper.lines[0].isprintable()
    assert log.lines[0]["message"] == text


def test_moments_are_utc(log: Log) -> None:
    """The time of an event, and times in its fields."""
    log.view.observe(Stopping(DAY_CLOSED, 2))
    assert log.lines[0]["run_again_at"] == "2026-11-22T12:00:00Z"
    assert log.lines[0]["model"] is None
