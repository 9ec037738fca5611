import errno
import os
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from gemini_batch.engine import session
from gemini_batch.errors import ExitCode, StorageError
from gemini_batch.events import Event, RunStarted
from gemini_batch.output import OutputFolder
from gemini_batch.output.rows import newest_rows
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import FailureKind, Limits, Stop, StopReason
from tests.builders import (
    ENDPOINT,
    MODEL,
    blocked_for,
    fails,
    picture,
    says,
)
from tests.virtual import clock as virtual_clock
from tests.virtual.desk import Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")


# --- the summary ------------------------------------------------------------------------------------------------------


def test_the_summary_is_whole(desk: Desk) -> None:
    """`summary.json` has all there is to know, as a monitor would read it."""
    desk.run({"a": [says(503), picture(30.0)], "b": [fails(FailureKind.TIMEOUT)], "c": [says(400)]})
    found = orjson.loads((desk.out / "summary.json").read_bytes())

    row = next(row for row in newest_rows(desk.out) if row["id"] == "a")
    this_run = found.pop("this_run")
    assert {
        "calls": 3,
        "left": 1,
        "exit_code": 4,
        "run_again_at": None,
        "stops": [],
    }.items() <= found.items()
    assert found["by_status"] == {"succeeded": 1, "rejected": 1, "failed": 1}
    assert {
        "manifest": str(desk.path),
        "out": str(desk.out),
        "tier": "test",
        "endpoint": ENDPOINT,
    }.items() <= (found.items())
    assert found["started_at"].startswith("2026-11-22T20:00:00.")
    assert found["started_at"].endswith("Z")
    assert this_run == this_run | {
        "finished": 3,
        "by_status": {"succeeded": 1, "rejected": 1, "failed": 1},
        "sent": 5,
        "retries": 2,
        "possibly_billed": 2,
        "prompt_tokens": 10,
        "output_tokens": 1120,
        "cost_usd": round(row["cost_usd"], 6),
        "unpriced": 0,
        "by_reason": {"rejected": {"400 INVALID_ARGUMENT": 1}, "failed": {"TIMEOUT": 1}},
        "unfinished": [
            {"id": "c", "line": 3, "status": "rejected", "message": "no"},
            {"id": "b", "line": 2, "status": "failed", "message": "it is TIMEOUT"},
        ],
        "retries_by_reason": {"503 UNAVAILABLE": 1, "TIMEOUT": 1},
        "estimated_answered_usd": pytest.approx(row["cost_usd"], rel=0.05),
        "latency_p50_s": 1.0,
        "latency_p95_s": 30.0,
    }


def test_the_summary_says_what_was_used_of_each_limit(desk: Desk) -> None:
    """Of a minute, ten minutes and a day: what this run used of what it might have, and what all runs leave."""
    limits = Limits(requests_per_min=2, requests_per_day=9, tokens_per_min=1000, usd_per_10min=5.0)
    windows = {(use.of, use.span): use for use in desk.run(limits=limits).windows}

    assert [(use.model, use.limit) for use in windows.values()] == [
        (MODEL, limit) for limit in (2, 1000, 5.0, 9)
    ]
    minute, day = windows["requests", "a minute"], windows["requests", "a day"]
    assert (minute.used_by_run, minute.allowed, minute.utilisation) == (3, 4, 0.75)
    assert (day.used_by_run, day.allowed, day.used, day.left) == (3, 9, 3, 6)
    assert windows["tokens", "a minute"].used_by_run == 30
    cost_usd = sum(row["cost_usd"] for row in newest_rows(desk.out))
    assert windows["usd", "in ten minutes"].used_by_run == pytest.approx(cost_usd, abs=1e-5)


def test_the_ledger_never_holds_up_the_event_loop(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program may hold a shared ledger for long: it is asked off the loop, for the summary too, and not at all in a hurry."""
    on_loop, asked_on_loop = [True], list[bool]()

    async def off_loop(function: Callable[[], Any]) -> Any:
        on_loop[0] = False
        try:
            return function()
        finally:
            on_loop[0] = True

    def used(*_: Any) -> tuple[()]:
        asked_on_loop.append(on_loop[0])
        return ()

    monkeypatch.setattr(virtual_clock, "_inline", off_loop)
    monkeypatch.setattr(MemoryStorage, "blocks", True)
    monkeypatch.setattr(SharedLedger, "used", used)
    desk.run({"a": [picture(9.0)]}, cancel_at_s=5.0)
    assert asked_on_loop == []
    desk.run()
    assert asked_on_loop == [False]


def test_what_cannot_be_tidied_is_told_and_the_summary_is_there(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When all is done and the disk fails at last, the run ends with 8, and says what it came to."""

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(OutputFolder, "clear_inputs", fail)
    summary = desk.run()
    assert (summary.exit_code, summary.by_status) == (ExitCode.STORAGE, {"succeeded": 3})


def test_a_ledger_that_fails_leaves_the_summary_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody knows of a limit is null, and all else is there."""

    def fail(*_: Any) -> None:
        raise StorageError("the ledger's disk is full")

    monkeypatch.setattr(SharedLedger, "used", fail)
    (day,) = desk.run(limits=Limits(requests_per_day=9)).windows

    assert (day.used_by_run, day.utilisation, day.used, day.left) == (3, 0.3333, None, None)


def test_reasons_without_end_are_counted_in_the_end_as_others(desk: Desk) -> None:
    """A server that gives each call a reason of its own does not make the summary grow without end."""
    ids = [f"n{number}" for number in range(60)]
    desk.write(**dict.fromkeys(ids, "A robot"))
    blocked = desk.run(
        {name: [blocked_for(f"REASON_{name}" * 100)] for name in ids}
    ).this_run.by_reason["blocked"]

    assert (len(blocked), blocked["other"], sum(blocked.values())) == (51, 10, 60)
    assert max(len(reason) for reason in blocked) == 80


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        *((reason, False) for reason in ("interrupted", "terminated", "day_closed", "deadline")),
        *(
            (reason, True)
            for reason in (
                "storage",
                "auth",
                "precondition",
                "model",
                "billing",
                "no_quota",
                "outage",
            )
        ),
        ("manifest_changed", True),
    ],
)
def test_a_person_is_needed_for_what_waiting_does_not_mend(
    desk: Desk, reason: str, *, expected: bool
) -> None:
    """A job of several nights ends with 5 each night, and nobody has to look; a key that is refused is another matter."""

    async def stop(going: session.Run) -> None:
        going.stop(Stop(StopReason(reason), "because"))

    assert desk.run(during=stop).needs_person is expected


def test_a_person_is_needed_for_a_budget_that_pays_for_nothing(desk: Desk) -> None:
    """A budget of some calls goes on each night; one below a single call would send nothing every night, unless it copies what is free."""
    some, none = desk.run(max_cost_usd=0.15), desk.run(max_cost_usd=0.01)
    assert (some.this_run.sent, some.needs_person) == (1, False)
    assert (none.this_run.sent, none.needs_person) == (0, True)
    assert [stop["reason"] for stop in (*some.stops, *none.stops)] == ["budget"] * 2

    paid, desk.out = desk.out, desk.out.with_name("other.out")
    copied = desk.run(max_cost_usd=0.01, concurrency=1, reuse_from=(paid,))
    assert (copied.this_run.sent, copied.this_run.reused, copied.needs_person) == (0, 1, False)


def test_the_summary_names_no_more_calls_than_a_person_reads(desk: Desk) -> None:
    """Ten of those that failed are named, however many there are."""
    ids = [f"n{number}" for number in range(30)]
    desk.write(**dict.fromkeys(ids, "A robot"))
    this_run = desk.run({name: [says(400, name)] for name in ids}).this_run

    assert (len(this_run.unfinished), this_run.by_status) == (10, {"rejected": 30})


def test_a_person_is_needed_for_what_failed_in_this_run(desk: Desk) -> None:
    """Once: a call that was rejected last night is no reason to look again, though the exit code still tells of it."""
    first, second = desk.run({"a": [says(400)]}), desk.run()

    assert (first.exit_code, first.needs_person) == (ExitCode.INCOMPLETE, True)
    assert (second.exit_code, second.needs_person) == (ExitCode.INCOMPLETE, False)


def test_a_summary_of_a_run_that_goes_on_has_no_end(desk: Desk) -> None:
    """Yesterday's summary is not to be taken for today's: from the first request on, and after a kill, it is of this run."""
    desk.run()
    desk.write(a="A robot", b="Another cat", c="A dog")
    found: list[dict[str, Any]] = []

    def look(event: Event) -> None:
        if isinstance(event, RunStarted):
            found.append(orjson.loads((desk.out / "summary.json").read_bytes()))

    desk.run(watch=look)

    (begun,) = found
    assert (begun["exit_code"], begun["ended_at"], begun["left"], begun["calls"]) == (
        None,
        None,
        1,
        3,
    )
    assert begun["this_run"]["sent"] == 0


def test_a_full_disk_ends_the_run_before_anything_is_sent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even the summary of a run that begins can be written, nothing is paid for."""
    desk.run()
    desk.write(a="Another robot", b="A cat", c="A dog")
    desk.transport = None

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ExceptionGroup) as caught:
        desk.run()

    assert caught.group_contains(
        StorageError, match=r"summary\.json can't be written: No space left"
    )
    assert desk.sent() == []


def test_a_disk_without_room_for_the_summary_is_an_error(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A summary that can't be written is a failure of the disk, and the earlier one stays whole."""
    desk.run()
    before = (desk.out / "summary.json").read_bytes()

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ExceptionGroup) as caught:
        desk.run()

    assert caught.group_contains(
        StorageError, match=r"summary\.json can't be written: No space left"
    )
    assert before == (desk.out / "summary.json").read_bytes()
