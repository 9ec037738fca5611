"""Chains by batches: a batch takes calls whose pictures are durable; the next level goes with the next run."""

import base64
from typing import Any

import orjson
import pytest

from gemini_batch.errors import ExitCode
from gemini_batch.records.remote_batch import BatchState
from tests.builders import png, sha256
from tests.virtual.batch_desk import BATCH, BatchDesk
from tests.virtual.desk import CONFIG

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def write(desk: BatchDesk, parents: dict[str, str], **texts: str) -> None:
    """Write jobs by the parents of each, with other texts for some."""
    desk.path.write_bytes(
        b"".join(orjson.dumps(job(*each, texts)) + b"\n" for each in parents.items())
    )


def job(name: str, parents: str, texts: dict[str, str]) -> dict[str, Any]:
    """Return a job with the text first: it is what the server draws."""
    images = [{"image": f"job:{parent}"} for parent in parents]
    return {"id": name, "parts": [{"text": texts.get(name, f"prompt {name}")}, *images]}


def sent(desk: BatchDesk) -> list[list[str]]:
    """Return the names in each batch of the server."""
    return [
        [line["request"]["contents"][0]["parts"][0]["text"].split()[-1] for line in each.lines]
        for each in desk.server.batches.values()
    ]


CHAIN = {"c": "b", "a": "", "b": "a", "x": ""}


def test_a_level_goes_with_each_run(batch_desk: BatchDesk) -> None:
    """Children of waiting calls are held, and the exit code says to run again."""
    write(batch_desk, CHAIN)
    summary = batch_desk.run()
    assert (summary.exit_code, summary.held, summary.waiting) == (
        ExitCode.STOPPED,
        {"waiting": 2},
        2,
    )
    assert (summary.left, summary.needs_person) == (4, False)
    assert sent(batch_desk) == [["a", "x"]]
    summary = batch_desk.run()
    assert (summary.exit_code, summary.held, summary.left) == (ExitCode.STOPPED, {"waiting": 1}, 2)
    assert sent(batch_desk)[1:] == [["b"]]
    batch_desk.run()
    summary = batch_desk.run()
    assert (summary.exit_code, summary.held, summary.left) == (ExitCode.DONE, {}, 0)
    assert sent(batch_desk)[2:] == [["c"]]
    (line,) = list(batch_desk.server.batches.values())[2].lines
    data = line["request"]["contents"][0]["parts"][1]["inlineData"]["data"]
    assert base64.b64decode(data) == png("prompt b")
    inputs = {row["id"]: row["inputs"] for row in batch_desk.rows()}
    assert [each["sha256"] for each in inputs["c"]] == [sha256(png("prompt b"))]


def test_a_run_that_stays_submits_level_after_level(batch_desk: BatchDesk) -> None:
    """With `--wait` one run does the whole chain, each level when the one before is collected."""
    write(batch_desk, CHAIN)
    summary = batch_desk.run(waits_for_batches=True)
    assert (summary.exit_code, summary.left, summary.held) == (ExitCode.DONE, 0, {})
    assert sent(batch_desk) == [["a", "x"], ["b"], ["c"]]


def test_a_level_may_go_by_another_route(batch_desk: BatchDesk) -> None:
    """What a batch brought is used by a single request, and the other way round; nothing is sent twice."""
    write(batch_desk, CHAIN)
    batch_desk.run()
    summary = batch_desk.run(CONFIG)
    assert (summary.left, summary.held) == (0, {})
    assert batch_desk.transport is not None
    assert [name for _, name in batch_desk.transport.sent] == ["b", "c"]
    assert batch_desk.run().this_run.submitted == 0


def test_a_batch_without_answers_gives_its_level_back(batch_desk: BatchDesk) -> None:
    """Its children stay held until the calls above have pictures, by whatever way."""
    write(batch_desk, CHAIN)
    batch_desk.server.end_state, batch_desk.server.is_answered = BatchState.EXPIRED, False
    batch_desk.run()
    batch_desk.server.end_state, batch_desk.server.is_answered = BatchState.SUCCEEDED, True
    summary = batch_desk.run()
    assert (summary.held, summary.waiting) == ({"waiting": 2}, 2)
    assert batch_desk.survives().by_status == {"succeeded": 4}
    assert sent(batch_desk) == [["a", "x"], ["a", "x"], ["b"], ["c"]]


def test_a_child_in_a_batch_whose_parent_is_edited_meanwhile(batch_desk: BatchDesk) -> None:
    """Its answer is kept, and says what it was made of: it is stale, and sent again only if it is asked for."""
    write(batch_desk, CHAIN)
    batch_desk.run()
    batch_desk.run()
    write(batch_desk, CHAIN, a="other prompt a")
    batch_desk.run()  # collects b, and submits a
    summary = batch_desk.run()
    assert summary.stale == 1
    assert sent(batch_desk) == [["a", "x"], ["b"], ["c", "a"]]
    before = len(batch_desk.server.batches)
    batch_desk.run()
    assert len(batch_desk.server.batches) == before
    for _ in range(4):
        batch_desk.run(redo=("stale",))
    assert sent(batch_desk)[before:] == [["b"], ["c"]]


@pytest.mark.slow
def test_a_kill_at_any_moment_of_a_chain_costs_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before any request, note or row, and run again: each level is paid for once, after its parents."""
    number = 0
    while True:
        number += 1
        with monkeypatch.context() as patch:
            folder = tmp_path / f"{number}"
            folder.mkdir()
            desk = BatchDesk(folder, patch)
            write(desk, CHAIN)
            desk.kill_at = number
            desk.survives(BATCH, runs=20)
            assert desk.final() == dict.fromkeys(CHAIN, "succeeded")
            assert set(desk.server.billed().values()) == {1}, number
            inputs = {row["id"]: [each["sha256"] for each in row["inputs"]] for row in desk.rows()}
            assert inputs["c"] == [sha256(png("prompt b"))]
            assert inputs["b"] == [sha256(png("prompt a"))]
            if len(desk.deeds) < number:
                return
