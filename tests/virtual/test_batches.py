from datetime import timedelta
from typing import Any

import orjson
import pytest

from gemini_batch.errors import StorageError
from gemini_batch.events import Stopping
from gemini_batch.output.paths import has_batches
from gemini_batch.records import ApiError, Failure, FailureKind, Limits
from gemini_batch.records.remote_batch import BatchState
from tests.builders import OFFLINE, png, says
from tests.virtual.batch_desk import BatchDesk
from tests.virtual.batch_server import error_line


def test_calls_are_submitted_and_a_later_run_collects_them(batch_desk: BatchDesk) -> None:
    """The first run submits and ends with 5, the next one collects: half the price, once each."""
    batch_desk.write()
    first = batch_desk.run()
    assert (first.exit_code, first.needs_person, first.waiting, first.left) == (5, False, 4, 4)
    assert [stop["reason"] for stop in first.stops] == ["waiting"]
    assert first.run_again_at is not None
    assert [(each["calls"], each["waiting"]) for each in first.batches] == [(3, 3), (1, 1)]
    second = batch_desk.run()
    assert (second.exit_code, second.waiting, second.left) == (0, 0, 0)
    assert batch_desk.final() == dict.fromkeys("abcd", "succeeded")
    assert batch_desk.images() == {each: png(f"prompt {each}") for each in "abcd"}
    assert {row["route"] for row in batch_desk.rows()} == {"batch"}
    assert batch_desk.notes() == []
    assert batch_desk.server.files == {}
    assert set(batch_desk.server.billed().values()) == {1}


def test_an_interactive_run_collects_and_leaves_what_waits(batch_desk: BatchDesk) -> None:
    """Whatever its route, a run looks at what is open; a call that waits is not sent by another way."""
    batch_desk.write()
    batch_desk.run(after_h=0.1)
    batch_desk.write(5)
    early = batch_desk.run(route="interactive", after_h=1)
    assert (early.exit_code, early.waiting, early.left) == (5, 4, 4)
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["e"]
    late = batch_desk.run(route="interactive")
    assert (late.exit_code, late.left) == (0, 0)
    assert batch_desk.transport.sent == []
    assert {row["id"]: row["route"] for row in batch_desk.rows()} == {
        **dict.fromkeys("abcd", "batch"),
        "e": "interactive",
    }


def test_batches_of_many_lines_have_the_size_that_was_said(batch_desk: BatchDesk) -> None:
    """Positions of one and of two digits: the upload has exactly the bytes that were announced."""
    batch_desk.write(25)
    assert len(batch_desk.run(batch_lines=12).batches) == 3
    assert batch_desk.run().exit_code == 0


def test_a_wait_ends_when_all_is_collected(batch_desk: BatchDesk) -> None:
    """`--wait` polls from once a minute to once in five, and ends with 0."""
    batch_desk.write()
    summary = batch_desk.run(waits_for_batches=True)
    assert (summary.exit_code, summary.waiting) == (0, 0)
    assert 3600 <= summary.duration_s < 3600 + 300
    assert 2 * 12 <= batch_desk.server.requests.count("get") <= 2 * 60


def test_errors_go_into_a_batch_once_more(batch_desk: BatchDesk) -> None:
    """What a batch gives back is sent in one more; then the call is failed, until the next run."""

    def spoil(_number: int, lines: list[bytes]) -> list[bytes]:
        return [error_line(line) if b".0." in line[-40:] else line for line in lines]

    batch_desk.server.spoil = spoil
    batch_desk.write(2)
    batch_desk.run()
    second = batch_desk.run()
    assert (second.exit_code, second.waiting, second.left) == (5, 1, 1)
    assert not second.needs_person
    third = batch_desk.run()
    assert (third.exit_code, third.waiting, third.left) == (4, 0, 1)
    assert third.needs_person
    assert batch_desk.final() == {"a": "failed", "b": "succeeded"}
    assert len(batch_desk.server.batches) == 2
    fourth = batch_desk.run()
    assert (fourth.exit_code, fourth.waiting) == (5, 1)


def test_auto_sends_alone_what_a_batch_gives_back(batch_desk: BatchDesk) -> None:
    """With `auto` and `interactive` it is sent at once."""
    batch_desk.server.spoil = lambda _number, lines: [error_line(lines[0]), *lines[1:]]
    batch_desk.write(3)
    batch_desk.run()
    summary = batch_desk.run(route="auto")
    assert (summary.exit_code, summary.left, summary.needs_person) == (0, 0, False)
    assert summary.by_status == {"succeeded": 3}
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["a"]


def test_a_line_that_the_api_refuses_is_rejected(batch_desk: BatchDesk) -> None:
    """An error line with INVALID_ARGUMENT ends the call, as a 400 does."""
    batch_desk.server.spoil = lambda _number, lines: [
        error_line(lines[0], 3, "Request contains an invalid argument."),
        *lines[1:],
    ]
    batch_desk.write(3)
    batch_desk.run()
    summary = batch_desk.run()
    assert (summary.exit_code, summary.waiting) == (4, 0)
    assert batch_desk.final() == {"a": "rejected", "b": "succeeded", "c": "succeeded"}


@pytest.mark.parametrize("state", [BatchState.EXPIRED, BatchState.FAILED, BatchState.CANCELLED])
@pytest.mark.parametrize("is_answered", [True, False])
def test_results_are_read_whatever_the_state(
    state: BatchState,
    is_answered: bool,  # noqa: FBT001
    batch_desk: BatchDesk,
) -> None:
    """A file that is named is collected; without one all calls are free, and may have been billed."""
    batch_desk.server.end_state, batch_desk.server.is_answered = state, is_answered
    batch_desk.server.spoil = lambda _number, lines: lines[:1]
    batch_desk.write(2)
    batch_desk.run()
    summary = batch_desk.run(route="interactive")
    sent = [call for _, call in batch_desk.transport.sent] if batch_desk.transport else []
    assert sent == (["b"] if is_answered else ["a", "b"])
    assert summary.this_run.possibly_billed == len(sent)
    assert summary.exit_code == 0


def test_uncertain_calls_stay_so_if_asked(batch_desk: BatchDesk) -> None:
    """With `--on-uncertain skip`, what an expired batch did not answer is not sent again."""
    batch_desk.server.end_state, batch_desk.server.is_answered = BatchState.EXPIRED, False
    batch_desk.write(2)
    batch_desk.run()
    summary = batch_desk.run(skip_uncertain=True)
    assert batch_desk.final() == dict.fromkeys("ab", "uncertain")
    assert (summary.exit_code, len(batch_desk.server.batches)) == (4, 1)


def test_a_batch_past_patience_is_cancelled_and_its_end_awaited(batch_desk: BatchDesk) -> None:
    """It is never overtaken: what it answered is collected, and only then the rest is free."""
    batch_desk.server.takes = timedelta(hours=47)
    batch_desk.server.spoil = lambda _number, lines: lines[:2]
    batch_desk.write(3)
    batch_desk.run(after_h=27)
    second = batch_desk.run(after_h=1)
    assert batch_desk.server.requests.count("cancel") == 1
    assert (second.exit_code, second.needs_person, second.waiting) == (5, True, 3)
    assert len(batch_desk.server.batches) == 1
    third = batch_desk.run(route="interactive")
    assert batch_desk.final() == dict.fromkeys("abc", "succeeded")
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["c"]
    assert third.exit_code == 0


@pytest.mark.parametrize("is_sent_first", [True, False])
def test_an_edited_line_is_sent_now_and_the_old_answer_is_late(
    is_sent_first: bool,  # noqa: FBT001
    batch_desk: BatchDesk,
) -> None:
    """Whichever comes first, the answer to the old line is in the sums, and never the newest."""
    batch_desk.write(2)
    batch_desk.run(after_h=0.1 if is_sent_first else 2)
    batch_desk.write(2, a="another prompt")
    batch_desk.run(route="interactive", after_h=2)
    summary = batch_desk.run(route="interactive")
    assert (summary.exit_code, summary.left) == (0, 0)
    rows = {(row["id"], row["status"]): row for row in batch_desk.rows()}
    assert rows.keys() == {("a", "late"), ("a", "succeeded"), ("b", "succeeded")}
    assert batch_desk.images()["a"] != png("prompt a")
    (image,) = rows["a", "late"]["images"]
    assert (batch_desk.out / image["path"]).read_bytes() == png("prompt a")
    assert image["path"].startswith("superseded/")
    again = batch_desk.run(route="interactive")
    assert (again.exit_code, again.by_status) == (0, {"succeeded": 2})
    assert batch_desk.transport is not None
    assert batch_desk.transport.sent == []


def test_a_line_that_is_edited_and_put_back_takes_the_answer_of_its_batch(
    batch_desk: BatchDesk,
) -> None:
    """Whatever was asked for in between: the batch's answer is the newest, and nothing is sent again."""
    batch_desk.write(1)
    batch_desk.run(after_h=0.1)
    batch_desk.write(1, a="another prompt")
    batch_desk.run(route="interactive", after_h=2)
    batch_desk.write(1)
    summary = batch_desk.run(route="interactive")
    assert (summary.exit_code, summary.left) == (0, 0)
    assert batch_desk.transport is not None
    assert batch_desk.transport.sent == []
    assert batch_desk.images()["a"] == png("prompt a")


def odd(lines: list[bytes]) -> list[bytes]:
    """Return lines with all kinds of faults."""
    other = lines[0].replace(b'"key":"', b'"key":"x')
    return [lines[2], other, b"no json\n", lines[1], lines[1], b"\n", lines[0][:-30]]


def test_odd_lines_are_reported_and_not_fatal(batch_desk: BatchDesk) -> None:
    """Torn, unknown, repeated and missing lines, in any order: the others are collected, the rest is free."""
    batch_desk.server.spoil = lambda _number, lines: odd(lines)
    batch_desk.write(3)
    batch_desk.run()
    summary = batch_desk.run(route="interactive")
    assert summary.exit_code == 0
    assert batch_desk.transport is not None
    assert [call for _, call in batch_desk.transport.sent] == ["a"]
    said = batch_desk.said()
    for part in (
        "1 torn",
        "2 with a key that is not of the batch",
        "1 a second answer",
        "1 call has no answer",
    ):
        assert part in said
    assert len([*(batch_desk.out / "superseded").iterdir()]) == 2


@pytest.mark.parametrize("key_is_first", [True, False])
def test_a_file_that_ends_within_a_line_has_its_picture(
    batch_desk: BatchDesk,
    key_is_first: bool,  # noqa: FBT001
) -> None:
    """The last line breaks off after its picture each time: its call is known by its key, or as the only one without a line."""

    def torn(_number: int, lines: list[bytes]) -> list[bytes]:
        last = orjson.loads(lines[-1])
        if key_is_first:
            lines.insert(0, orjson.dumps({"key": last["key"], "response": last["response"]}))
            return [*lines[1:-1], lines[0][: lines[0].index(b'"}') + 1]]
        return [*lines[:-1], lines[-1][: lines[-1].index(b'"}') + 1]]

    batch_desk.server.spoil = torn
    batch_desk.write(3)
    batch_desk.run()
    summary = batch_desk.run(route="interactive")
    assert (summary.exit_code, summary.left) == (0, 0)
    assert batch_desk.transport is None or batch_desk.transport.sent == []
    assert batch_desk.images()["c"] == png("prompt c")
    assert [row["is_cut"] for row in batch_desk.rows()] == [False, False, True]
    assert batch_desk.rows()[-1]["cost_usd"] > 0
    assert not [*(batch_desk.out / ".gemini_batch/incoming").iterdir()]


def test_a_torn_line_is_given_to_no_call_by_guess(batch_desk: BatchDesk) -> None:
    """Where two calls have no line, it may be of either: both are sent again."""
    batch_desk.server.spoil = lambda _number, lines: [
        lines[0],
        lines[2][: lines[2].index(b'"}') + 1],
    ]
    batch_desk.write(3)
    batch_desk.run()
    batch_desk.run(route="interactive")
    assert batch_desk.transport is not None
    assert sorted(call for _, call in batch_desk.transport.sent) == ["b", "c"]


@pytest.mark.parametrize("has_ranges", [True, False])
def test_a_download_that_breaks_continues(has_ranges: bool, batch_desk: BatchDesk) -> None:  # noqa: FBT001
    """It continues where it was cut, or is read again without a row twice."""
    batch_desk.server.cuts, batch_desk.server.has_ranges = [50, 400, 500, 700], has_ranges
    batch_desk.write(3)
    batch_desk.run()
    assert batch_desk.run().exit_code == 0
    assert [row["id"] for row in batch_desk.rows()] == list("abc")
    assert "result" not in batch_desk.said()


def test_no_room_ends_the_submission(batch_desk: BatchDesk) -> None:
    """A 429 at the create is not tried again in this run: the rest is left to a later one."""
    batch_desk.server.deny = [None, ApiError(429, "RESOURCE_EXHAUSTED", None, "No more.")]
    batch_desk.write(7)
    summary = batch_desk.run()
    assert [stop["reason"] for stop in summary.stops] == ["batch_full", "waiting"]
    assert (summary.waiting, summary.left, summary.needs_person) == (3, 7, False)
    assert batch_desk.server.requests.count("create") == 2
    assert len(batch_desk.server.files) == 1
    assert batch_desk.survives().exit_code == 0


def test_a_run_that_waits_submits_the_rest_when_there_is_room(batch_desk: BatchDesk) -> None:
    """After a 429 it collects what is open, and then submits what was left."""
    batch_desk.server.deny = [None, ApiError(429, "RESOURCE_EXHAUSTED", None, "No more.")]
    batch_desk.write(7)
    summary = batch_desk.run(waits_for_batches=True)
    assert (summary.exit_code, summary.left, summary.stops) == (0, 0, [])


def test_an_image_that_is_elsewhere_is_paid_for_once(batch_desk: BatchDesk) -> None:
    """An answer of a batch that names its image by a URI is fetched, and if that fails not sent again."""

    def spoil(_number: int, lines: list[bytes]) -> list[bytes]:
        line = orjson.loads(lines[0])
        part = {"fileData": {"fileUri": "https://example.com/a.png", "mimeType": "image/png"}}
        line["response"]["candidates"][0]["content"]["parts"] = [part]
        return [orjson.dumps(line) + b"\n"]

    batch_desk.server.spoil = spoil
    batch_desk.write(1)
    batch_desk.run()
    batch_desk.fetcher.script["https://example.com/a.png"] = [OFFLINE]
    summary = batch_desk.run(route="auto")
    assert summary.exit_code == 4
    assert batch_desk.transport is not None
    assert batch_desk.transport.sent == []
    assert batch_desk.rows()[-1]["error"]["status"] == "NOT_FETCHED"
    assert batch_desk.notes() == []
    batch_desk.fetcher.script.clear()
    assert batch_desk.run().exit_code == 0
    assert len(batch_desk.server.batches) == 1


def test_lines_that_the_create_names_are_rejected_and_the_others_sent(
    batch_desk: BatchDesk,
) -> None:
    """The strict parser of the server names lines: these calls end rejected, with its words."""
    message = (
        "Error on line 2: invalid JSON, near column 1032: no such field: 'thinking_config'\n"
        "Error on line 3: invalid JSON"
    )
    batch_desk.server.deny = [ApiError(400, "INVALID_ARGUMENT", None, message)]
    batch_desk.write(3)
    summary = batch_desk.run()
    assert summary.waiting == 1
    assert {row["id"]: row["error"]["message"] for row in batch_desk.rows()} == {
        "b": "invalid JSON, near column 1032: no such field: 'thinking_config'",
        "c": "invalid JSON",
    }
    assert batch_desk.run().exit_code == 4
    assert batch_desk.final() == {"a": "succeeded", "b": "rejected", "c": "rejected"}


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (ApiError(400, "INVALID_ARGUMENT", None, "Unsupported"), 4, "alike"),
        (ApiError(401, "UNAUTHENTICATED", None, "no key"), 6, "auth"),
        (ApiError(404, "NOT_FOUND", None, "models/x is not found"), 6, "model"),
        (Failure(FailureKind.UNREACHABLE, "no route", may_be_billed=False), 5, "outage"),
    ],
)
def test_a_create_that_is_refused_costs_nothing_and_says_why(
    error: ApiError | Failure, code: int, reason: str, batch_desk: BatchDesk
) -> None:
    """The run ends; nothing is left on the server or in the folder, and the next run sends all."""
    batch_desk.server.deny = [error]
    batch_desk.write(2)
    summary = batch_desk.run()
    assert (summary.exit_code, [stop["reason"] for stop in summary.stops]) == (code, [reason])
    assert (batch_desk.notes(), batch_desk.server.files) == ([], {})
    assert batch_desk.survives().exit_code == 0


def test_a_server_without_batches_is_named_before_anything_is_uploaded(
    batch_desk: BatchDesk,
) -> None:
    """A model that does not offer batchGenerateContent ends the run with 3."""
    batch_desk.server.supports = False
    batch_desk.write(2)
    summary = batch_desk.run()
    assert (summary.exit_code, batch_desk.server.requests) == (3, [])
    assert "batchGenerateContent" in summary.stops[0]["message"]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\0" * 300, b'{"uuid": 5}', b"[" * 100_000])
def test_a_damaged_note_is_a_batch_that_may_exist(damage: bytes, batch_desk: BatchDesk) -> None:
    """It is said, the batch is found by its name, and nothing is sent again."""
    batch_desk.write(3)
    batch_desk.run()
    (note,) = batch_desk.out.glob(".gemini_batch/batches/*/batch.json")
    note.write_bytes(damage)
    summary = batch_desk.run()
    assert (summary.exit_code, len(batch_desk.server.batches)) == (0, 1)
    assert "is damaged" in batch_desk.said() or "another batch" in batch_desk.said()


def test_a_kill_while_a_note_is_made_or_removed_leaves_none(batch_desk: BatchDesk) -> None:
    """A folder without a file, and one that is being removed, are of no batch that may exist."""
    batch_desk.write(2)
    batch_desk.run()
    (note,) = (batch_desk.out / ".gemini_batch" / "batches").iterdir()
    (note.with_name("0" * 32)).mkdir()
    gone = note.with_name("1" * 32 + ".gone")
    gone.mkdir()
    (gone / "batch.json").write_bytes((note / "batch.json").read_bytes())
    assert batch_desk.run().exit_code == 0
    assert not any(note.parent.iterdir())
    gone.mkdir()
    assert not has_batches(batch_desk.out)


@pytest.mark.parametrize("damage", [None, b"", b'{"id": "a"'])
def test_calls_that_are_unknown_stop_the_run(damage: bytes | None, batch_desk: BatchDesk) -> None:
    """Without the calls of a batch that may exist, nothing is sent: they would be paid for again."""
    batch_desk.write(3)
    batch_desk.run()
    (lines,) = batch_desk.out.glob(".gemini_batch/batches/*/lines.jsonl")
    lines.unlink()
    if damage is not None:
        lines.write_bytes(damage)
    with pytest.raises(StorageError, match="would be paid for again"):
        batch_desk.run()


def test_a_day_that_is_used_up_goes_on_in_batches(batch_desk: BatchDesk) -> None:
    """`auto` sends single requests while the day's quota lasts, and the rest in batches."""
    batch_desk.write(6)
    limits = Limits(requests_per_day=2)
    summary = batch_desk.run(route="auto", limits=limits)
    assert batch_desk.transport is not None
    assert len(batch_desk.transport.sent) == 2
    assert (summary.waiting, summary.exit_code) == (4, 5)
    assert [stop["reason"] for stop in summary.stops] == ["waiting"]
    assert "what is left is sent in batches" in batch_desk.said()
    assert not any(isinstance(event, Stopping) for event in batch_desk.events)


def test_a_manifest_without_the_call_still_gets_its_row(batch_desk: BatchDesk) -> None:
    """What was paid for is collected when its line is gone, and is not counted as left."""
    batch_desk.write(3)
    batch_desk.run()
    batch_desk.write(1)
    summary = batch_desk.run(route="interactive")
    assert (summary.exit_code, summary.left, summary.calls) == (0, 0, 1)
    assert batch_desk.final() == dict.fromkeys("abc", "succeeded")


def test_a_call_that_names_a_model_that_is_gone_keeps_no_other_back(
    batch_desk: BatchDesk,
) -> None:
    """Calls of the default model go to its successor, also at the create; a line that names it can't."""
    jobs = [
        {"id": "a", "prompt": "prompt a", "model": "gemini-3-pro-image-preview"},
        {"id": "b", "prompt": "prompt b"},
    ]
    batch_desk.path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    batch_desk.server.gone = {"gemini-3-pro-image-preview"}
    summary = batch_desk.run()
    assert (summary.exit_code, summary.waiting) == (6, 1)
    assert {each["model"] for each in summary.batches} == {"gemini-3-pro-image"}
    batch_desk.run(route="interactive", script={"a": [says(404)]})
    (row,) = [row for row in batch_desk.rows() if row["id"] == "b"]
    assert (row["status"], row["model"]) == ("succeeded", "gemini-3-pro-image")


@pytest.mark.parametrize("narrow", [{"max_cost_usd": 1e-6}, {"deadline_s": 1e-6}])
def test_flags_that_narrow_what_is_sent_collect_all(
    narrow: dict[str, Any], batch_desk: BatchDesk
) -> None:
    """A budget that is used up and a deadline that has passed hold back no answer that is paid for."""
    batch_desk.write(4)
    batch_desk.run()
    batch_desk.write(5)
    summary = batch_desk.run(**narrow)
    assert (summary.exit_code, summary.left, summary.waiting) == (5, 1, 0)
    assert batch_desk.final() == dict.fromkeys("abcd", "succeeded")


@pytest.mark.parametrize("narrow", [{"only": ("b", "c")}, {"limit": 1}])
def test_a_run_of_a_part_collects_all_and_sends_no_more_than_the_part(
    narrow: dict[str, Any], batch_desk: BatchDesk
) -> None:
    """What a batch answered outside of the part is taken; what it gave back there is left."""
    batch_desk.server.spoil = lambda _number, lines: [error_line(lines[0]), *lines[1:]]
    batch_desk.write(2)
    batch_desk.run()
    batch_desk.write(3)
    summary = batch_desk.run(route="interactive", **narrow)
    assert batch_desk.final() == {"a": "failed", "b": "succeeded", "c": "succeeded"}
    assert (summary.left, summary.waiting) == (1, 0)
