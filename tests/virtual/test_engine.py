import asyncio
import errno
import shutil
import sys
from pathlib import Path

import orjson
import pytest

from gemini_batch.clock import Clock
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
    Step,
    answers,
    blocked_for,
    breaks,
    fails,
    picture,
    png,
    says,
    tree,
)
from tests.virtual.clock import NOON_UTC, run
from tests.virtual.desk import CONFIG, GONE, REFUSED, Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")


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


def test_blocked_calls_are_sent_again_by_reason(desk: Desk) -> None:
    """Only those whose reason is named are paid for again; a prompt's own reason counts like an answer's."""
    prompt = answers({"promptFeedback": {"blockReason": "OTHER"}})
    script = {"a": [blocked_for("IMAGE_SAFETY")], "b": [prompt], "c": [blocked_for("NO_IMAGE")]}
    desk.run(script)

    desk.run(script, retry_reasons=frozenset({"SAFETY"}))
    assert desk.sent() == []
    desk.run(script, retry_reasons=frozenset({"OTHER", "NO_IMAGE"}))
    assert sorted(desk.sent()) == ["b", "c"]
    desk.run(retry_reasons=frozenset({"IMAGE_SAFETY"}))
    assert desk.sent() == ["a"]
    desk.run(retry_reasons=frozenset({"IMAGE_SAFETY"}))
    assert desk.sent() == []


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
        ([says(402)], ExitCode.REFUSED),
        ([says(429)], ExitCode.REFUSED),
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
        (Limits(usd_per_10min=0.1), r"the limit is \$0\.100 in ten minutes: it can never be sent"),
        (
            Limits(usd_per_day=0.2),
            r"takes \$0\.24\d, and the limit is \$0\.200 a day: it can never be sent",
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
        pytest.raises(StorageError, match=r"can't be read: .*Not a directory"),
        build.build_plan(desk.path, tmp_path / "file", CONFIG),
    ):
        pass


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
