import asyncio
import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.client import interactive
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine import session, setup
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ConfigError, ExitCode, FolderBusyError, ManifestError, StorageError
from gemini_batch.events import CallFinished, Event, Repaired, RunStarted, Stopping
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.rows import newest_rows
from gemini_batch.plan import build
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import FailureKind, Limits, Status, Stop, StopReason
from tests.builders import (
    ENDPOINT,
    MODEL,
    BugError,
    ScriptedTransport,
    Step,
    blocked_for,
    breaks,
    fails,
    picture,
    png,
    says,
    tree,
)
from tests.virtual import clock as virtual_clock
from tests.virtual.clock import NOON_UTC, run

CONFIG = Settings(
    tier="test",
    limits=Limits(),
    endpoint=ENDPOINT,
    base_url=ENDPOINT,
    model=MODEL,
    concurrency=4,
    max_attempts=2,
)
REFUSED, GONE = [says(401)], [fails(FailureKind.UNREACHABLE)]


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Durability is another module's matter here, and real syncs are slow."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


class Desk:
    """A manifest and its output folder; each `run` is one run of the engine with a scripted network."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "jobs.jsonl"
        self.out = folder / "jobs.out"
        self.events: list[Event] = []
        self.transport: ScriptedTransport | None = None
        self._monkeypatch = monkeypatch

    def write(self, **prompts: str) -> None:
        """Write the manifest: the prompt of each id."""
        self.write_jobs(*({"id": call_id, "prompt": prompt} for call_id, prompt in prompts.items()))

    def write_jobs(self, *jobs: dict[str, Any]) -> None:
        """Write the manifest's lines."""
        self.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))

    def run(
        self,
        script: dict[str, list[Step]] | None = None,
        *,
        during: Callable[[session.Run], Any] | None = None,
        cancel_at_s: float | None = None,
        watch: Callable[[Event], None] = lambda _event: None,
        **changes: Any,
    ) -> Summary:
        """Run the manifest; return the summary."""
        self.events = []

        def observe(event: Event) -> None:
            self.events.append(event)
            watch(event)

        async def scenario(clock: Clock) -> None:
            self.transport = ScriptedTransport(clock, script or {})
            self._monkeypatch.setattr(
                interactive, "InteractiveTransport", lambda *_: self.transport
            )
            async with asyncio.TaskGroup() as group:
                running = group.create_task(going.send(ENDPOINT, clock))
                if cancel_at_s is not None:
                    asyncio.get_running_loop().call_later(cancel_at_s, running.cancel)
                if during:
                    group.create_task(during(going))

        config = replace(CONFIG, **changes)
        with setup.open_run(
            self.path, self.out, config, observe, SharedLedger(MemoryStorage(), config.limits)
        ) as going:
            run(scenario)
        assert going.summary is not None
        assert going.summary.json() == (self.out / "summary.json").read_bytes()
        return going.summary

    def sent(self) -> list[str]:
        """What the last run sent."""
        return [call_id for _, call_id in self.transport.sent] if self.transport else []


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk with three jobs."""
    desk = Desk(tmp_path, monkeypatch)
    desk.write(a="A robot", b="A cat", c="A dog")
    return desk


# --- what is done, and what is sent -----------------------------------------------------------------------------------


def test_what_is_done_is_not_sent_again(desk: Desk) -> None:
    """The second run of a manifest sends nothing, ends with 0, and counts what the first one did."""
    first = desk.run()
    second = desk.run()

    assert desk.sent() == []
    assert (first.exit_code, second.exit_code) == (ExitCode.DONE, ExitCode.DONE)
    assert (first.by_status, second.by_status) == ({"succeeded": 3}, {"succeeded": 3})
    assert (first.this_run.finished, second.this_run.finished, first.left, second.left) == (
        3,
        0,
        0,
        0,
    )


def test_failed_calls_are_tried_again(desk: Desk) -> None:
    """The next run sends what failed, and nothing else; the newest row counts, once a call."""
    first = desk.run({"b": [says(500)]})
    assert (first.exit_code, first.left, first.by_status) == (
        ExitCode.INCOMPLETE,
        1,
        {"succeeded": 2, "failed": 1},
    )

    second = desk.run()

    assert desk.sent() == ["b"]
    assert (second.exit_code, second.left, second.by_status) == (ExitCode.DONE, 0, {"succeeded": 3})


def test_an_answer_that_a_killed_run_had_kept_is_not_paid_for_again(desk: Desk) -> None:
    """A run that was killed between an answer's last byte and its row: the next one gives the call its row and its image, and sends the others."""
    desk.run()
    (asked,) = (row["request_sha256"] for row in newest_rows(desk.out) if row["id"] == "a")
    shutil.rmtree(desk.out)
    store = OutputFolder(desk.out)
    (store.private / "incoming").mkdir(parents=True)
    InFlightLog(store.private, 0).sent("a", asked, 0)
    incoming = store.stage("a", 1, NOON_UTC)
    image = incoming.open_image(0)
    image.write(png("kept"))
    image.close()
    part = {"inlineData": {"mimeType": "image/png", "data": "#0"}}
    incoming.journal(
        orjson.dumps({"candidates": [{"content": {"parts": [part]}, "finishReason": "STOP"}]})
    )

    summary = desk.run()

    assert sorted(desk.sent()) == ["b", "c"]
    assert (summary.by_status, summary.this_run.possibly_billed) == ({"succeeded": 3}, 0)
    assert tree(desk.out)["images/a.png"] == png("kept")


def test_an_edited_call_is_sent_and_its_image_kept(desk: Desk) -> None:
    """A line that was edited runs again and is named beforehand; the earlier image moves to superseded/."""
    desk.run()
    desk.write(a="A better robot", b="A cat", c="A dog")

    summary = desk.run()

    (started,) = [event for event in desk.events if isinstance(event, RunStarted)]
    assert (started.todo, started.done, started.edited) == (1, 2, 1)
    assert desk.sent() == ["a"]
    assert {"images/a.png", "superseded/a.png"} <= set(tree(desk.out))
    assert summary.by_status == {"succeeded": 3}


def test_what_was_never_paid_for_is_not_called_edited(desk: Desk) -> None:
    """A line that was rejected and is mended was not paid for: it is no edited one."""
    rejected = desk.run({"a": [says(400)]})
    assert (rejected.exit_code, rejected.by_status) == (
        ExitCode.INCOMPLETE,
        {"succeeded": 2, "rejected": 1},
    )
    desk.write(a="A better robot", b="A cat", c="A dog")

    summary = desk.run()

    (started,) = [event for event in desk.events if isinstance(event, RunStarted)]
    assert (started.todo, started.edited) == (1, 0)
    assert summary.by_status == {"succeeded": 3}


def test_rejected_calls_are_final_unless_asked_for(desk: Desk) -> None:
    """A rejected call is sent again only on demand, and keeps the exit code at 4 until then."""
    desk.run({"a": [says(400)]})

    again = desk.run()
    assert (again.exit_code, desk.sent()) == (ExitCode.INCOMPLETE, [])

    on_demand = desk.run(retry=frozenset({Status.REJECTED}))
    assert (on_demand.exit_code, desk.sent(), on_demand.by_status) == (
        ExitCode.DONE,
        ["a"],
        {"succeeded": 3},
    )


def test_a_run_against_another_server_does_not_count(desk: Desk) -> None:
    """A real run after a simulated one is not fooled by it."""
    desk.run(endpoint="simulator")
    desk.run()

    assert sorted(desk.sent()) == ["a", "b", "c"]


def test_counts_cover_calls_that_this_run_did_not_reach(desk: Desk) -> None:
    """A run that is stopped at once still says how the newest rows of earlier runs are."""
    desk.run({"a": [says(500)], "b": [says(400)]})

    summary = desk.run({"a": REFUSED})

    assert (summary.exit_code, summary.left) == (ExitCode.REFUSED, 1)
    assert summary.by_status == {"succeeded": 1, "rejected": 1, "failed": 1}
    assert summary.this_run.by_status == {}


# --- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (REFUSED, ExitCode.REFUSED),
        ([says(404)], ExitCode.REFUSED),
        ([says(402)], ExitCode.STOPPED),
        ([says(429)], ExitCode.STOPPED),
        (GONE, ExitCode.STOPPED),
        ([fails(FailureKind.STORAGE)], ExitCode.STORAGE),
        ([says(400)], ExitCode.INCOMPLETE),
        ([says(503)], ExitCode.INCOMPLETE),
        ([picture()], ExitCode.DONE),
    ],
)
def test_exit_codes(desk: Desk, step: list[Step], expected: ExitCode) -> None:
    """What ended the run, or how its calls ended, is what the process says."""
    assert expected == desk.run({"a": step}).exit_code


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["auth", "storage", "interrupted"], ExitCode.INTERRUPTED),
        (["terminated", "storage"], ExitCode.TERMINATED),
        (["outage", "auth", "storage"], ExitCode.STORAGE),
        (["billing", "deadline", "precondition"], ExitCode.REFUSED),
        (["deadline", "manifest_changed"], ExitCode.STOPPED),
    ],
)
def test_the_first_exit_code_that_applies(
    desk: Desk, reasons: list[str], expected: ExitCode
) -> None:
    """Of several reasons the gravest gives the exit code and comes first, whichever was found out first."""

    async def stop(going: session.Run) -> None:
        for reason in reasons:
            going.stop(Stop(StopReason(reason), f"because of {reason}"))

    summary = desk.run(during=stop)

    assert expected == summary.exit_code
    assert sorted(reasons) == sorted(stop["reason"] for stop in summary.stops)
    assert expected == Stop(StopReason(summary.stops[0]["reason"]), "").exit_code
    assert (desk.sent(), summary.left) == ([], 3)


def test_a_stop_that_comes_before_the_sending(desk: Desk) -> None:
    """A signal between the plan and the first request is heard."""
    with setup.open_run(
        desk.path, desk.out, CONFIG, desk.events.append, SharedLedger(MemoryStorage(), Limits())
    ) as going:
        going.stop(Stop(StopReason.INTERRUPTED, "interrupted"))

        async def scenario(clock: Clock) -> Summary:
            return await going.send(ENDPOINT, clock)

        summary = run(scenario)

    assert (summary.exit_code, summary.left) == (ExitCode.INTERRUPTED, 3)


def test_the_day_says_when_to_run_again(desk: Desk) -> None:
    """A day that is used up ends with 5, what is left, and the moment from which on it makes sense to run again."""
    summary = desk.run(limits=Limits(requests_per_day=1))

    assert (summary.exit_code, summary.left) == (ExitCode.STOPPED, 2)
    assert orjson.loads(summary.json())["run_again_at"] == "2026-11-23T08:00:01Z"


def test_a_deadline_takes_in_no_more(desk: Desk) -> None:
    """After the deadline nothing is sent, what is in flight is written, and the run ends with 5."""
    summary = desk.run(concurrency=1, deadline_s=30.0)

    assert (summary.exit_code, summary.left, summary.by_status) == (
        ExitCode.STOPPED,
        1,
        {"succeeded": 2},
    )
    assert [stop["reason"] for stop in summary.stops] == ["deadline"]


def test_a_deadline_that_stopped_nothing_is_none(desk: Desk) -> None:
    """When all had been sent before the deadline, and ended after it, the run is done."""
    summary = desk.run(deadline_s=10.0)

    assert (summary.exit_code, summary.left, summary.stops) == (ExitCode.DONE, 0, [])


@pytest.mark.parametrize("reason", ["deadline", "terminated", "interrupted", "cancelled"])
def test_an_end_during_an_outage_names_it(desk: Desk, reason: str) -> None:
    """Whatever ends a run while the server can't be reached: its words and its summary say so, and why; nobody is called for it."""
    words = {"deadline": "the deadline of 30 s is over"}.get(reason, reason)

    async def stop(going: session.Run) -> None:
        await asyncio.sleep(30.0)
        if reason in {"terminated", "interrupted"}:
            going.stop(Stop(StopReason(reason), words))

    summary = desk.run(
        dict.fromkeys("abc", GONE),
        during=stop,
        cancel_at_s=30.0 if reason == "cancelled" else None,
        deadline_s=30.0 if reason == "deadline" else None,
    )

    message = f"{words}; the server can't be reached: it is UNREACHABLE"
    assert summary.stops == [
        {"reason": reason.replace("cancelled", "interrupted"), "message": message}
    ]
    assert (summary.left, summary.needs_person) == (3, False)
    told = [event.stop.message for event in desk.events if isinstance(event, Stopping)]
    assert told == [message]


def test_an_outage_that_is_over_is_not_named(desk: Desk) -> None:
    """Who was reached again is not to blame."""
    summary = desk.run({"a": [*GONE, picture(100.0)]}, concurrency=1, deadline_s=30.0)
    assert summary.stops == [{"reason": "deadline", "message": "the deadline of 30 s is over"}]


def test_a_cancelled_run_has_a_summary(desk: Desk) -> None:
    """Who cancels finds what was answered, what is left, and how much may have been billed."""
    summary = desk.run({"a": [picture(1.0)]}, cancel_at_s=5.0)

    assert (summary.exit_code, summary.left, summary.by_status) == (
        ExitCode.INTERRUPTED,
        2,
        {"succeeded": 1},
    )
    assert summary.this_run.possibly_billed == 2
    assert [event.row.id for event in desk.events if isinstance(event, CallFinished)] == ["a"]

    after = desk.run()
    (repaired,) = [event.message for event in desk.events if isinstance(event, Repaired)]
    assert repaired == "2 calls were sent by a run that was killed, and may have been billed: b, c"
    assert (sorted(desk.sent()), after.this_run.possibly_billed) == (["b", "c"], 2)
    assert after.exit_code == ExitCode.DONE


def test_one_call_that_a_killed_run_had_sent_is_one(desk: Desk) -> None:
    """It is told of in the singular."""
    desk.run(concurrency=1, cancel_at_s=5.0)
    desk.run()
    (repaired,) = [event.message for event in desk.events if isinstance(event, Repaired)]
    assert repaired == "1 call was sent by a run that was killed, and may have been billed: a"


# --- the manifest and the folder --------------------------------------------------------------------------------------


def test_a_line_edited_meanwhile_stops_the_run(desk: Desk) -> None:
    """What was checked is what is sent: a line that was changed since ends the run, which says which one."""

    async def edit(_going: session.Run) -> None:
        await asyncio.sleep(10)
        desk.path.write_bytes(desk.path.read_bytes().replace(b"A cat", b"A cow"))

    summary = desk.run(concurrency=1, during=edit)

    assert (summary.exit_code, summary.left, desk.sent()) == (ExitCode.STOPPED, 2, ["a"])
    assert summary.stops[0]["reason"] == "manifest_changed"
    assert "jobs.jsonl:2: was edited during the run" in summary.stops[0]["message"]


def test_a_reference_image_that_vanishes_stops_the_run(desk: Desk) -> None:
    """An input that is gone when its turn comes ends the run before the call is paid for."""
    image = desk.path.with_name("in.png")
    image.write_bytes(b"\x89PNG\r\n\x1a\n....")
    desk.write_jobs({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x", "images": ["in.png"]})

    async def remove(_going: session.Run) -> None:
        await asyncio.sleep(10)
        image.unlink()

    summary = desk.run(concurrency=1, during=remove)

    assert (summary.exit_code, desk.sent()) == (ExitCode.STOPPED, ["a"])
    assert "there is no such file" in summary.stops[0]["message"]


def test_a_bad_manifest_leaves_no_folder(desk: Desk) -> None:
    """A manifest that is wrong is refused before anything is made."""
    desk.write_jobs({"id": "a"})
    with pytest.raises(ManifestError):
        desk.run()

    assert not desk.out.exists()


def test_two_runs_never_share_a_folder(desk: Desk) -> None:
    """The second run on a folder is refused while the first one is there."""
    with (
        setup.open_run(
            desk.path, desk.out, CONFIG, desk.events.append, SharedLedger(MemoryStorage(), Limits())
        ),
        pytest.raises(FolderBusyError, match="held by another run"),
    ):
        desk.run()


def test_a_killed_run_is_repaired_and_told(desk: Desk) -> None:
    """What a killed run left is put right before anything is sent, and each thing is told in one line."""
    desk.run()
    with (desk.out / "results.jsonl").open("ab") as file:
        file.write(b'{"torn')

    desk.run()

    (repaired,) = [event.message for event in desk.events if isinstance(event, Repaired)]
    assert "its end was damaged and is repaired" in repaired
    assert desk.sent() == []


def test_files_that_could_have_no_name_refuse_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Python writes file names in ASCII nothing is sent: an answer that was paid for could have no place."""
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(ConfigError, match=r"file system encoding is ascii, .*; set PYTHONUTF8=1"):
        desk.run()

    assert not desk.out.exists()


def test_a_damaged_row_refuses_the_run(desk: Desk) -> None:
    """A damaged row is not guessed at: nothing is sent, and nothing is paid for twice."""
    desk.run()
    results = desk.out / "results.jsonl"
    results.write_bytes(results.read_bytes().replace(b"{", b"(", 1))

    with pytest.raises(StorageError, match=r"results\.jsonl:1: not a row"):
        desk.run()


def test_what_was_told_is_forgotten(desk: Desk) -> None:
    """Calls of a killed run that are in no manifest any more are named once, not at every start for ever."""
    desk.run({"c": [picture(1.0)]}, cancel_at_s=5.0)
    desk.write(c="A dog")
    desk.run()
    assert len([event for event in desk.events if isinstance(event, Repaired)]) == 1
    desk.run()

    assert [event for event in desk.events if isinstance(event, Repaired)] == []


# --- before anything is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(tokens_per_min=3), "the limit is 3 tokens a minute: it can never be sent"),
        (Limits(usd_per_10min=0.1), r"the limit is \$0\.1 in ten minutes: it can never be sent"),
        (
            Limits(usd_per_day=0.2),
            r"takes \$0\.24\d* *, and the limit is \$0\.2 a day: it can never be sent",
        ),
    ],
)
def test_a_call_larger_than_the_quota_is_refused(desk: Desk, limits: Limits, words: str) -> None:
    """The largest call counts, not the average one: what could never be sent is said before anything is."""
    small = {"prompt": "A small robot, with some words"}
    desk.write_jobs(
        *({"id": f"{number}", **small} for number in range(9)),
        {"id": "4k", "image_size": "4K", **small},
    )

    with pytest.raises(ConfigError, match=words):
        desk.run(limits=limits)

    assert not desk.out.exists()


def test_a_wrong_price_is_a_sentence(desk: Desk) -> None:
    """A mistake in the config file's prices is an error for a person."""
    with pytest.raises(ConfigError, match=r"image_usd: got"):
        desk.run(tables={"prices": {MODEL: {"image_usd": -1}}})


def test_results_that_cannot_be_read_are_a_sentence(desk: Desk, tmp_path: Path) -> None:
    """Where the earlier results can't be read, planning says so."""
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(StorageError, match="can't be read: Not a directory"),
        build.build_plan(desk.path, tmp_path / "file", CONFIG),
    ):
        pass


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
        "by_reason": {"rejected": {"400 SOME_STATUS": 1}, "failed": {"TIMEOUT": 1}},
        "unfinished": [
            {"id": "c", "line": 3, "status": "rejected", "message": "no"},
            {"id": "b", "line": 2, "status": "failed", "message": "it is TIMEOUT"},
        ],
        "retries_by_reason": {"503 SOME_STATUS": 1, "TIMEOUT": 1},
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
    this_run = desk.run({name: [says(400)] for name in ids}).this_run

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


# --- who watches, and bugs --------------------------------------------------------------------------------------------


def test_nobody_listening_stops_nothing(desk: Desk) -> None:
    """When whoever read our words has gone, the run goes on in silence."""

    def broken(event: Event) -> None:
        if isinstance(event, CallFinished):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    summary = desk.run(watch=broken)

    assert (summary.exit_code, summary.by_status) == (ExitCode.DONE, {"succeeded": 3})


def test_a_bug_is_no_summary(desk: Desk) -> None:
    """A bug is raised, after the others' answers were written: the next run does not send them again."""
    with pytest.raises(ExceptionGroup) as caught:
        desk.run({"b": [breaks()]})
    assert caught.group_contains(BugError)

    desk.run()
    assert desk.sent() == ["b"]


def test_what_is_told_comes_in_order(desk: Desk) -> None:
    """First the plan, then what happens; a stop is told once."""
    desk.run({"a": REFUSED, "b": REFUSED})

    assert isinstance(desk.events[0], RunStarted)
    assert len([event for event in desk.events if isinstance(event, Stopping)]) == 1


def test_the_folder_is_free_afterwards(desk: Desk) -> None:
    """A run lets go of the folder at its end."""
    desk.run()
    with OutputFolder(desk.out).locked():
        pass
