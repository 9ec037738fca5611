"""Chains: a call is sent once the pictures that it uses are durable, and gets these very pictures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.errors import ExitCode
from gemini_batch.events import CallFinished, CallHeld, CallNotReused, CallSent, Event
from gemini_batch.inputs import lookup
from gemini_batch.output.rows import newest_rows
from gemini_batch.records import FailureKind
from tests.builders import (
    OFFLINE,
    Step,
    blocked_for,
    fails,
    names,
    picture,
    png,
    says,
    sha256,
)
from tests.virtual.desk import GONE, Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def job(name: str, *parents: str, **fields: Any) -> dict[str, Any]:
    """Return a job that uses these pictures."""
    images = {"images": [f"job:{parent}" for parent in parents]} if parents else {}
    return {"id": name, "prompt": f"draw {name}", **images, **fields}


@pytest.fixture
def chain(desk: Desk) -> Desk:
    """Return a desk with a sheet, two scenes of it, and a correction of one scene."""
    write(desk)
    return desk


def write(desk: Desk, **prompts: str) -> None:
    """Write the manifest, children first, with other prompts for some."""
    jobs = (job("fix", "scene"), job("scene", "sheet"), job("other", "sheet"), job("sheet"))
    desk.write_jobs(*({**each, "prompt": prompts.get(each["id"], each["prompt"])} for each in jobs))


def rows(desk: Desk) -> dict[str, dict[str, Any]]:
    """Return the newest row of each call."""
    return {row["id"]: row for row in newest_rows(desk.out)}


def inputs(desk: Desk) -> dict[str, dict[str, str]]:
    """Return path → SHA-256 of the inputs of each call."""
    return {
        name: {each["path"]: each["sha256"] for each in row["inputs"]}
        for name, row in rows(desk).items()
    }


def order(events: list[Event]) -> Iterator[str]:
    """Yield what was sent and what was durable, in order."""
    for event in events:
        if isinstance(event, CallSent):
            yield f"send {event.call_id}"
        if isinstance(event, CallFinished):
            yield f"done {event.row.id}"


def test_pictures_of_parents_are_not_remembered_for_the_whole_run(chain: Desk) -> None:
    """However many calls a run makes, its memory is that of the latest pictures."""
    lookup._image.cache_clear()
    assert chain.run().by_status == {"succeeded": 4}
    assert lookup._image.cache_info().currsize == 0


def test_a_child_is_sent_when_its_parent_is_durable(chain: Desk) -> None:
    """In one run, level by level, and the inputs of a row are the bytes of the pictures that were sent."""
    summary = chain.run()
    assert (summary.exit_code, summary.left, summary.held) == (ExitCode.DONE, 0, {})
    steps = list(order(chain.events))
    assert steps[:2] == ["send sheet", "done sheet"]
    assert steps.index("done scene") < steps.index("send fix")
    sheet, scene = (
        sha256((chain.out / f"images/{each}.png").read_bytes()) for each in ("sheet", "scene")
    )
    assert inputs(chain) == {
        "sheet": {},
        "scene": {"job:sheet": sheet},
        "other": {"job:sheet": sheet},
        "fix": {"job:scene": scene},
    }
    assert chain.run().this_run.sent == 0


def test_a_call_with_several_pictures_waits_for_all(desk: Desk) -> None:
    """Variants are named as their calls are; pictures stand among the texts where they are in `parts`."""
    parts = [{"text": "put"}, {"image": "job:a.2"}, {"text": "on"}, {"image": "job:b"}]
    desk.write_jobs({"id": "both", "parts": parts}, job("a", variants=2), job("b"))
    desk.run({"a.2": [picture(60.0)], "b": [picture(90.0)]})
    steps = list(order(desk.events))
    assert steps[-2:] == ["send both", "done both"]
    assert list(inputs(desk)["both"]) == ["job:a.2", "job:b"]


def test_all_variants_of_a_child_are_sent(desk: Desk) -> None:
    """And each of them may be a parent itself."""
    desk.write_jobs(
        job("a"), job("b", "a", variants=3), job("c", "b.3"), job("d", "b", "b.2", "b.2")
    )
    assert desk.run().by_status == {"succeeded": 6}
    assert sorted(desk.sent()) == ["a", "b", "b.2", "b.3", "c", "d"]


BAD: dict[str, tuple[list[Step], str]] = {
    "blocked": ([blocked_for("SAFETY")], "blocked"),
    "rejected": ([says(400)], "rejected"),
    "failed": ([fails(FailureKind.TIMEOUT)] * 2, "failed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_child_of_a_call_without_a_picture_is_held(chain: Desk, kind: str) -> None:
    """It gets no row and is not paid for; the reason goes down the chain; a person must act, now and next time."""
    script, status = BAD[kind]
    for _ in range(2):
        summary = chain.run({"scene": script})
        assert summary.exit_code == ExitCode.INCOMPLETE
        assert summary.held == {status: 1}
        assert (summary.needs_person, summary.left) == (True, 1 + (kind == "failed"))
    assert set(rows(chain)) == {"sheet", "scene", "other"}
    write(chain, scene="something else")
    summary = chain.run()
    assert (summary.exit_code, summary.held, summary.left) == (ExitCode.DONE, {}, 0)
    assert chain.sent() == ["scene", "fix"]


def test_all_below_a_call_without_a_picture_are_held(chain: Desk) -> None:
    """The first one above that brings none is the reason for all."""
    summary = chain.run({"sheet": [blocked_for("SAFETY")]})
    assert (summary.held, summary.left, chain.sent()) == ({"blocked": 3}, 3, ["sheet"])
    summary = chain.run()
    assert (summary.held, summary.exit_code, chain.sent()) == (
        {"blocked": 3},
        ExitCode.INCOMPLETE,
        [],
    )


def test_what_a_stopped_run_did_not_come_to_is_not_held(chain: Desk) -> None:
    """Nothing is wrong with it: the next run sends it."""
    summary = chain.run({"sheet": GONE})
    assert (summary.held, summary.left) == ({}, 4)
    summary = chain.run(max_cost_usd=0.3)
    assert (summary.held, summary.exit_code) == ({}, ExitCode.STOPPED)
    assert summary.left > 0
    assert chain.run().left == 0


def test_a_parent_outside_of_the_part_is_not_sent(chain: Desk) -> None:
    """Its child is held, and named; a limit is for calls that can be sent."""
    summary = chain.run(only=("scene", "fix"))
    assert (summary.held, summary.exit_code, summary.left) == ({"later": 2}, ExitCode.INCOMPLETE, 4)
    for sent in (["sheet"], ["scene"], ["fix"], ["other"]):
        summary = chain.run(limit=1)
        assert (summary.exit_code, summary.held, chain.sent()) == (ExitCode.DONE, {}, sent)


def test_a_limit_is_not_used_up_by_what_is_held(desk: Desk) -> None:
    """A blocked parent with children at the top of the manifest does not end all progress."""
    desk.write_jobs(
        job("bad"), *(job(f"of-bad-{each}", "bad") for each in range(3)), job("a"), job("b", "a")
    )
    desk.run({"bad": [blocked_for("SAFETY")]}, limit=1)
    desk.run(limit=1)
    assert desk.sent() == ["a"]
    summary = desk.run(limit=2)
    assert desk.sent() == ["b"]
    assert summary.held == {"blocked": 2}  # the third is not in the part


@pytest.mark.parametrize("change", ["remove", "edit"])
def test_a_picture_that_is_gone_is_not_replaced_by_another(chain: Desk, change: str) -> None:
    """What is in the folder by hand is not sent as the picture of a row: the child is held."""
    chain.run(only=("sheet",))
    image = chain.out / "images/sheet.png"
    size = image.stat().st_size
    image.unlink()
    if change == "edit":
        image.write_bytes(b"\x89PNG\r\n\x1a\n".ljust(size, b"x"))
    summary = chain.run()
    assert (summary.held, chain.sent()) == ({"missing": 3}, [])
    assert summary.exit_code == ExitCode.INCOMPLETE
    texts = [event.message for event in chain.events if isinstance(event, CallHeld)]
    assert min(texts).startswith("other is not sent: images/sheet.png")
    if change == "remove":
        assert chain.run(retry_missing=True).left == 0


def test_a_child_is_not_edited_when_its_parent_is(chain: Desk) -> None:
    """It is stale, which is counted and costs nothing; `--redo stale` makes it again, each once, parents first."""
    chain.run()
    write(chain, sheet="another sheet")
    summary = chain.run()
    assert (chain.sent(), summary.stale, summary.exit_code) == (["sheet"], 3, ExitCode.DONE)
    summary = chain.run()
    assert (chain.sent(), summary.stale) == ([], 3)
    summary = chain.run(redo=("stale",))
    assert (sorted(chain.sent()), summary.stale) == (["fix", "other", "scene"], 0)
    assert list(order(chain.events))[-1] == "done fix"
    assert chain.run(redo=("stale",)).this_run.sent == 0


def test_an_edit_and_its_stale_children_in_one_run(chain: Desk) -> None:
    """They wait for the new picture of their parent, which is made in the same run."""
    chain.run()
    write(chain, scene="another scene")
    chain.run(redo=("stale",))
    assert chain.sent() == ["scene", "fix"]
    assert inputs(chain)["fix"] == {
        "job:scene": sha256((chain.out / "images/scene.png").read_bytes())
    }
    assert chain.run(redo=("stale",)).this_run.sent == 0


def test_a_redone_parent_with_the_same_picture_leaves_its_children(chain: Desk) -> None:
    """A picture counts by its bytes."""
    chain.run()
    chain.run(redo=("sheet",))
    assert chain.run().stale == 0
    chain.run({"sheet": [picture(drawing="!")]}, redo=("sheet",))
    assert chain.run().stale == 3


def test_stale_calls_outside_of_the_part_stay(chain: Desk) -> None:
    """`--only` and `--limit` narrow a redo too."""
    chain.run()
    write(chain, sheet="another sheet")
    chain.run()
    chain.run(redo=("stale",), only=("other",))
    assert chain.sent() == ["other"]
    chain.run({"scene": [picture(drawing="!")]}, redo=("stale",), limit=1)
    assert chain.sent() == ["scene"]
    assert chain.run(redo=("stale",)).stale == 0
    assert chain.sent() == ["fix"]


def test_a_reused_child_was_made_of_the_reused_picture(chain: Desk, tmp_path: Path) -> None:
    """An answer of another folder counts only if its inputs are the pictures that are here."""
    chain.run()
    other = tmp_path / "other"
    chain.out.rename(other)
    assert chain.run(reuse_from=(other,)).this_run.sent == 0
    assert inputs(chain)["fix"]["job:scene"] == sha256((other / "images/scene.png").read_bytes())
    chain.out.rename(tmp_path / "second")
    write(chain, sheet="another sheet")
    summary = chain.run(reuse_from=(other,))
    assert sorted(chain.sent()) == ["fix", "other", "scene", "sheet"]
    assert summary.this_run.reused == 0


def test_a_paid_answer_is_fetched_without_its_parent(chain: Desk) -> None:
    """Its row says what it was made of, not what is there now."""
    uri = "https://files/1"
    chain.fetcher.script = {uri: [OFFLINE]}
    chain.run({"scene": [names(uri)]}, only=("sheet", "scene"))
    made_of = inputs(chain)["scene"]
    chain.fetcher.script = {uri: [png("late")]}
    write(chain, sheet="another sheet")
    chain.run({"sheet": [blocked_for("SAFETY")]}, only=("sheet",))
    summary = chain.run(only=("scene",))
    assert chain.sent() == []
    assert summary.by_status["succeeded"] == 1
    assert inputs(chain)["scene"] == made_of


def test_a_model_that_is_gone_takes_its_chain_along(desk: Desk) -> None:
    """Calls that name no model go on with the successor, in the order of their chains."""
    desk.write_jobs(job("a"), job("b", "a"), job("c", "b", model="gemini-3-pro-image"))
    summary = desk.run({"a": [says(404), picture()]}, is_model_named=False)
    assert summary.left == 0, summary
    assert desk.sent() == ["a", "a", "b", "c"]


def test_an_answer_of_another_folder_that_was_made_with_another_picture_is_not_taken(
    chain: Desk, tmp_path: Path
) -> None:
    """The picture of the parent is known when it is done: what does not fit is sent, and said."""
    chain.run()
    other = tmp_path / "other"
    chain.out.rename(other)
    chain.run({"sheet": [picture(drawing="!")]}, only=("sheet",))
    chain.run(reuse_from=(other,))
    assert sorted(chain.sent()) == [
        "other",
        "scene",
    ]  # the same scene as there, so its child is too
    texts = [event.message for event in chain.events if isinstance(event, CallNotReused)]
    assert len(texts) == 2
    assert all(text.endswith("made with another picture than that of job:sheet") for text in texts)


@pytest.mark.parametrize(("sheet", "status"), [("draw sheet", "uncertain"), ("other", "succeeded")])
def test_what_was_in_flight_is_known_by_its_pictures(chain: Desk, sheet: str, status: str) -> None:
    """A call of a killed run that may have been billed is that call only if it had the same pictures."""
    chain.run(only=("sheet", "other"))
    chain.run({"scene": [picture(100.0)]}, cancel_at_s=50.0)
    write(chain, sheet=sheet)
    chain.run(skip_uncertain=True)
    assert rows(chain)["scene"]["status"] == status
