"""Answers that name their images by URI, over several runs of one manifest."""

import asyncio
import errno
import os
from typing import Any

import orjson
import pytest

from gemini_batch.engine import remote
from gemini_batch.engine.session import Run
from gemini_batch.errors import ExitCode
from gemini_batch.events import CallAbandoned, CallNotReused
from gemini_batch.output import OutputFolder
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.output.staging import StagedFile
from gemini_batch.records import Stop, StopReason
from tests.builders import (
    FORBIDDEN,
    GONE_IMAGE,
    OFFLINE,
    names,
    picture,
    png,
    quota_of_the_day,
    says,
    tree,
)
from tests.virtual.desk import Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")

URI = "https://files.test/a.png"
COST_USD = 0.13442
"""Of an answer by its usage."""


@pytest.fixture
def one(desk: Desk) -> Desk:
    """Return a desk with one job."""
    desk.write(a="A robot")
    return desk


def row(desk: Desk) -> dict[str, Any]:
    """Return the newest row of the job `a`."""
    (found,) = (each for each in newest_rows(desk.out) if each["id"] == "a")
    return found


def files(desk: Desk) -> dict[str, bytes]:
    """Return the images, and what is left of answers without a row."""
    kept = ("images/", "drafts/", "superseded/", ".gemini_batch/incoming/")
    return {name: data for name, data in tree(desk.out).items() if name.startswith(kept)}


def costs(desk: Desk) -> list[float]:
    """Return the cost of all rows of the job `a`, in order."""
    return [each["cost_usd"] for each in read_rows(desk.out) if each["id"] == "a"]


# --- in the run that paid ---


def test_an_image_that_is_named_is_fetched_and_committed(one: Desk) -> None:
    """The row says what a row says of an image that was in the answer, and its cost."""
    summary = one.run({"a": [names(URI)]})

    assert (summary.exit_code, one.sent(), one.fetcher.fetched) == (ExitCode.DONE, ["a"], [URI])
    assert files(one) == {"images/a.png": png(URI)}
    found = row(one)
    assert (found["status"], found["remote_images"]) == ("succeeded", [])
    assert (found["cost_usd"], found["latency_s"]) == (summary.this_run.cost_usd, 20.0)
    assert found["cost_usd"] > 0
    assert found["usage"]["total_tokens"] == 1130


def test_the_result_is_fetched_first_and_drafts_after_it(one: Desk) -> None:
    """The last image that is no thought is the result; the others, and those within the answer, are drafts."""
    one.run({"a": [names("u:1", "u:2", "u:3", inline="own", thought=1)]})

    assert one.fetcher.fetched == ["u:3", "u:1", "u:2"]
    assert files(one) == {
        "images/a.png": png("u:3"),
        "drafts/a.1.png": png("own"),
        "drafts/a.2.png": png("u:1"),
        "drafts/a.3.png": png("u:2"),
    }


def test_a_draft_that_is_gone_fails_nothing(one: Desk) -> None:
    """With its result the call succeeded; the row names the draft that is missing."""
    one.fetcher.script["u:1"] = [GONE_IMAGE]
    summary = one.run({"a": [names("u:1", "u:2", thought=1)]})

    assert (summary.exit_code, files(one)) == (ExitCode.DONE, {"images/a.png": png("u:2")})
    assert (row(one)["status"], row(one)["remote_images"]) == ("succeeded", ["u:1"])
    assert one.run().exit_code == ExitCode.DONE
    assert (one.sent(), one.fetcher.fetched) == ([], ["u:2", "u:1"])


@pytest.mark.parametrize("problem", [OFFLINE, GONE_IMAGE, FORBIDDEN])
def test_an_image_that_is_not_fetched_fails_the_call_and_is_paid_for(
    one: Desk, problem: Any
) -> None:
    """The row is `failed`, holds URI, usage and cost, and counts in all totals; nothing else waits or stops."""
    one.fetcher.script[URI] = [problem]
    summary = one.run({"a": [names(URI)]})

    found = row(one)
    assert (found["status"], found["remote_images"]) == ("failed", [URI])
    assert (found["error"]["status"], found["images"]) == ("NOT_FETCHED", [])
    assert problem.message in found["error"]["message"]
    assert (found["usage"]["total_tokens"], found["attempts"]) == (1130, 1)
    assert summary.exit_code == ExitCode.INCOMPLETE
    assert summary.this_run.cost_usd == found["cost_usd"] > 0
    assert (summary.this_run.output_tokens, summary.this_run.sent) == (1120, 1)
    assert summary.this_run.estimated_answered_usd > 0
    assert (summary.stops, summary.this_run.retries_by_reason) == ([], {})
    assert summary.this_run.by_reason == {"failed": {"NOT_FETCHED": 1}}
    assert (files(one), one.sent()) == ({}, ["a"])


def test_what_is_not_fetched_counts_in_the_budget(desk: Desk) -> None:
    """An answer without its image has used up money as any other."""
    desk.fetcher.script[URI] = [OFFLINE]
    summary = desk.run({"a": [names(URI)]}, max_cost_usd=0.3, concurrency=1)

    assert [stop["reason"] for stop in summary.stops] == ["budget"]
    assert desk.sent() == ["a", "b"]


def test_failed_fetches_are_no_outage(desk: Desk) -> None:
    """However many servers of images are away, the API is not held back."""
    desk.write(**{f"n{number}": "A robot" for number in range(30)})
    away = {f"n{number}": [names(f"u:{number}")] for number in range(30)}
    desk.fetcher.script = {f"u:{number}": [OFFLINE] for number in range(30)}
    summary = desk.run(away)

    assert (summary.by_status, len(desk.sent())) == ({"failed": 30}, 30)
    assert (summary.stops, summary.exit_code) == ([], ExitCode.INCOMPLETE)


def test_all_images_of_an_answer_have_60_seconds(one: Desk) -> None:
    """Slow servers cost each answer a minute at most; what came in time is kept."""
    uris = [f"u:{number}" for number in range(20)]
    summary = one.run({"a": [names(*uris)]})

    assert summary.duration_s == pytest.approx(20 + remote.FETCH_S, abs=0.1)
    assert row(one)["status"] == "succeeded"
    assert len(row(one)["drafts"]) in {10, 11}
    assert len(row(one)["drafts"]) + len(row(one)["remote_images"]) == 19


def test_drafts_are_bounded_in_bytes(one: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the drafts of an answer are too many bytes, the others stay where they are."""
    monkeypatch.setattr(remote, "MAX_DRAFTS_BYTES", 15)
    one.run({"a": [names("u:1", "u:2", "u:3", "u:4")]})
    assert files(one) == {
        "images/a.png": png("u:4"),
        "drafts/a.1.png": png("u:1"),
        "drafts/a.2.png": png("u:2"),
    }
    assert (row(one)["status"], row(one)["remote_images"]) == ("succeeded", ["u:3"])


# --- a run that ends while they are fetched ---


def test_a_drain_waits_for_the_image(desk: Desk) -> None:
    """After the first signal the image is fetched and the row written; nothing of the answer is left."""

    async def interrupt(going: Run) -> None:
        await asyncio.sleep(22.0)
        assert going.in_flight == 2
        going.interrupt(Stop(StopReason.INTERRUPTED, "Ctrl-C"))

    later = names("u:b", latency_s=21.0)
    summary = desk.run({"a": [names(URI)], "b": [later], "c": [picture(1.0)]}, during=interrupt)
    assert summary.by_status == {"succeeded": 3}
    assert {*files(desk)} == {"images/a.png", "images/b.png", "images/c.png"}


@pytest.mark.parametrize("inline", ["", "own"])
def test_an_answer_that_waits_for_its_image_survives_the_end_of_the_run(
    one: Desk, inline: str
) -> None:
    """Abandoned while its image was fetched, the answer is kept, images that it holds included; the next run fetches, sends nothing,
    and counts what it costs, once.
    """
    one.run({"a": [names(URI, inline=inline)]}, cancel_at_s=22.0)
    assert [event for event in one.events if isinstance(event, CallAbandoned)] == []
    assert list(read_rows(one.out)) == []

    summary = one.run(skip_uncertain=True)

    assert (summary.exit_code, one.sent(), one.fetcher.fetched) == (ExitCode.DONE, [], [URI, URI])
    assert summary.this_run.possibly_billed == 0
    assert files(one) == {"images/a.png": png(URI)} | (
        {"drafts/a.1.png": png("own")} if inline else {}
    )
    assert (row(one)["attempts"], costs(one)) == (1, [summary.this_run.cost_usd])
    assert summary.this_run.cost_usd > 0
    assert one.run().this_run.finished == 0


def test_answers_that_arrive_meanwhile_take_nothing_from_it(desk: Desk) -> None:
    """While one answer waits for its image, others come and go; each that waits is kept."""
    script = {"a": [names("u:a")], "b": [picture(21.0)], "c": [names("u:c", latency_s=21.0)]}
    desk.run(script, cancel_at_s=23.0)
    assert [each["id"] for each in read_rows(desk.out)] == ["b"]

    summary = desk.run()

    assert (summary.by_status, desk.sent()) == ({"succeeded": 3}, [])
    assert files(desk)["images/c.png"] == png("u:c")
    assert not OutputFolder(desk.out).has_staged_files()


def test_an_edited_job_does_not_take_what_was_kept(one: Desk) -> None:
    """An answer to another request is not this one's."""
    one.run({"a": [names(URI)]}, cancel_at_s=22.0)
    one.write(a="A better robot")
    assert one.run().by_status == {"succeeded": 1}
    assert (one.sent(), one.fetcher.fetched) == (["a"], [URI])


def test_a_disk_that_fails_meanwhile_stops_the_run_and_keeps_the_answer(
    one: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 8 without a row; the next run fetches the image."""

    def full(_file: StagedFile, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(StagedFile, "write", full)
        assert one.run({"a": [names(URI)]}).exit_code == ExitCode.STORAGE
    assert list(read_rows(one.out)) == []
    assert one.run().by_status == {"succeeded": 1}
    assert one.sent() == []


# --- the next run ---


def test_the_next_run_fetches_before_it_pays(one: Desk) -> None:
    """Nothing is sent; the new row has the image and the answer's usage, and costs nothing more."""
    one.fetcher.script[URI] = [OFFLINE, png("late")]
    first = one.run({"a": [names(URI)]})
    paid = row(one)
    second = one.run()

    assert (second.exit_code, one.sent()) == (ExitCode.DONE, [])
    assert files(one) == {"images/a.png": png("late")}
    found = row(one)
    assert (found["status"], found["remote_images"]) == ("succeeded", [])
    assert (found["error"], found["attempts"], found["cost_usd"]) == (None, 0, 0.0)
    same = ("usage", "response_id", "finish_reason", "model_version", "request_sha256")
    assert {name: found[name] for name in same} == {name: paid[name] for name in same}
    assert (second.this_run.cost_usd, second.this_run.output_tokens) == (0.0, 0)
    assert (second.this_run.sent, second.this_run.estimated_answered_usd) == (0, 0.0)
    assert costs(one) == [first.this_run.cost_usd, 0.0]
    assert one.run().this_run.finished == 0


@pytest.mark.parametrize("problem", [OFFLINE, FORBIDDEN])
def test_without_a_definite_answer_it_is_never_paid_for_again(one: Desk, problem: Any) -> None:
    """Run after run nothing is sent, and the row stays `failed` with its URI; then the image comes."""
    one.fetcher.script[URI] = [problem] * 3 + [png("late")]
    one.run({"a": [names(URI)]})
    for _ in range(2):
        summary = one.run()
        assert (summary.exit_code, one.sent()) == (ExitCode.INCOMPLETE, [])
        assert row(one)["remote_images"] == [URI]
        assert summary.this_run.cost_usd == 0.0
    assert one.run().exit_code == ExitCode.DONE
    assert (one.sent(), [cost > 0 for cost in costs(one)]) == ([], [True, False, False, False])
    assert row(one)["usage"]["total_tokens"] == 1130


def test_an_image_that_is_gone_is_paid_for_again_with_a_word(one: Desk) -> None:
    """A definite answer of the next run, and only of that one, sends the call again, once."""
    one.fetcher.script[URI] = [GONE_IMAGE]
    one.run({"a": [names(URI)]})
    summary = one.run({"a": [says(503), picture()]})

    assert (summary.exit_code, one.sent()) == (ExitCode.DONE, ["a", "a"])
    assert one.fetcher.fetched == [URI, URI]
    (event,) = (event for event in one.events if isinstance(event, CallNotReused))
    assert (event.call_id, "gone" in event.message) == ("a", True)
    assert [cost > 0 for cost in costs(one)] == [True, True]


def test_an_image_that_is_refused_is_paid_for_again_on_demand(one: Desk) -> None:
    """With `--retry unfetched` nothing is fetched, and the call is sent."""
    one.fetcher.script[URI] = [FORBIDDEN]
    one.run({"a": [names(URI)]})
    summary = one.run(retry_unfetched=True)
    assert (summary.by_status, one.sent()) == ({"succeeded": 1}, ["a"])
    assert one.fetcher.fetched == [URI]


def test_an_edited_or_newer_row_is_not_fetched(one: Desk) -> None:
    """Neither an edited line, nor another endpoint, nor a call whose newest row has no URI fetches for its old answer."""
    one.fetcher.script[URI] = [GONE_IMAGE]
    one.run({"a": [names(URI)]})
    one.write(a="A better robot")
    one.run({"a": [says(503)]})
    one.write(a="A robot")
    one.run({"a": [says(503)]})
    one.run(endpoint="https://other.test")

    assert one.fetcher.fetched == [URI]
    assert row(one)["status"] == "succeeded"


def test_images_are_fetched_though_the_quota_of_the_day_is_used_up(desk: Desk) -> None:
    """They come first, and need no quota: their URIs may expire before the next day."""
    desk.fetcher.script["u:c"] = [OFFLINE, png("late")]
    closed = {"a": [quota_of_the_day()], "b": [quota_of_the_day()], "c": [names("u:c")]}
    desk.write(c="A dog")
    desk.run(closed)
    desk.write(a="A robot", b="A cat", c="A dog")
    summary = desk.run(closed, concurrency=1)

    assert (summary.by_status, desk.sent()) == ({"succeeded": 1}, ["a"])
    assert [stop["reason"] for stop in summary.stops] == ["day_closed"]


def test_an_earlier_image_stays_until_the_new_one_is_there(one: Desk) -> None:
    """An edited job keeps its old image while the new one is missing; drafts of the answer are kept at once."""
    one.run()
    old = files(one)["images/a.png"]
    one.write(a="A better robot")
    one.fetcher.script[URI] = [OFFLINE, png("new")]
    one.run({"a": [names(URI, inline="own")]})
    assert files(one) == {"images/a.png": old, "drafts/a.1.png": png("own")}
    one.run()
    assert files(one) == {
        "images/a.png": png("new"),
        "superseded/a.png": old,
        "superseded/drafts/a.1.png": png("own"),
    }


def test_rows_without_the_field_and_damaged_ones_are_read(one: Desk) -> None:
    """A row of an earlier version, or one that somebody edited, fetches nothing and ends nothing."""
    one.fetcher.script[URI] = [OFFLINE]
    one.run({"a": [names(URI)]})
    path = one.out / "results.jsonl"
    (line,) = path.read_bytes().splitlines()
    for changed in ({"remote_images": "no list"}, {"remote_images": None}, {}):
        found = {
            name: value for name, value in orjson.loads(line).items() if name != "remote_images"
        }
        path.write_bytes(orjson.dumps(found | changed) + b"\n")
        assert one.run(forgets_rows=True).by_status == {"succeeded": 1}
        assert one.sent() == ["a"]
    assert one.fetcher.fetched == [URI]


def test_a_signal_while_the_next_run_fetches_changes_nothing(one: Desk) -> None:
    """Cancelled while it fetches, it leaves the failed row as it is for the one after it."""
    one.fetcher.script[URI] = [OFFLINE, OFFLINE, png("late")]
    one.run({"a": [names(URI)]})
    before = (one.out / "results.jsonl").read_bytes()
    one.run(cancel_at_s=2.0)
    assert (one.out / "results.jsonl").read_bytes() == before
    assert one.run().exit_code == ExitCode.DONE
    assert (one.sent(), files(one)) == ([], {"images/a.png": png("late")})


def test_an_image_that_can_not_be_published_is_published_by_the_next_run(
    one: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails between the row of a fetched image and its name costs nothing: exit 8, then the image is there."""
    one.fetcher.script[URI] = [OFFLINE, png("late")]
    one.run({"a": [names(URI)]})

    def refuse(*_arguments: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(OutputFolder, "publish", refuse)
        assert one.run().exit_code == ExitCode.STORAGE
    assert one.run().by_status == {"succeeded": 1}
    assert (one.sent(), files(one)) == ([], {"images/a.png": png("late")})


@pytest.mark.parametrize("survives", [True, False])
def test_a_power_cut_costs_a_draft_and_not_the_answer(one: Desk, *, survives: bool) -> None:
    """A failed row whose draft did not survive still holds its URI: the next run fetches, and pays for nothing."""
    one.fetcher.script[URI] = [OFFLINE, png("late")]
    one.run({"a": [names(URI, inline="own")]})
    (one.out / ".gemini_batch/durable").write_bytes(b"0")
    if not survives:
        (one.out / "drafts/a.1.png").unlink()
    assert one.run().by_status == {"succeeded": 1}
    assert (one.sent(), files(one)["images/a.png"]) == ([], png("late"))
    assert [cost > 0 for cost in costs(one)] == [True, *([False] if not survives else []), False]


def test_what_can_be_reused_is_not_fetched(one: Desk) -> None:
    """An answer in another folder is there already; a failed one of there is no answer."""
    one.run()
    other = one.out.rename(one.out.with_name("other.out"))
    one.fetcher.script[URI] = [OFFLINE]
    one.run({"a": [names(URI)]})
    failed = one.out.rename(one.out.with_name("failed.out"))
    one.run({"a": [names(URI)]}, reuse_from=(failed,))
    assert one.sent() == ["a"]
    summary = one.run(reuse_from=(other,))
    assert (summary.by_status, one.sent(), len(one.fetcher.fetched)) == ({"succeeded": 1}, [], 2)
    assert row(one)["reused_from"]["id"] == "a"
