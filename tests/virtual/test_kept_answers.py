"""An answer that arrived and has no row: it is processed twice at most, then it is kept out of the way."""

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.engine import preprocess
from gemini_batch.events import Repaired
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.rows import newest_rows
from gemini_batch.records import Call
from tests.builders import ScriptedTransport, png, tree
from tests.virtual.clock import NOON_UTC
from tests.virtual.desk import Desk
from tests.virtual.test_recovery_kills import Killed

PART = {"inlineData": {"mimeType": "image/png", "data": "#0"}}
WHOLE = orjson.dumps({"candidates": [{"content": {"parts": [PART]}, "finishReason": "STOP"}]})


def keep_an_answer(desk: Desk, envelope: bytes = WHOLE, *, is_whole: bool = True) -> None:
    """Leave what a run leaves that is killed between the last byte of the answer to `a` and its row."""
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
    incoming.journal(envelope, is_whole=is_whole)
    if not is_whole:  # more of it arrives, and another answer is journaled meanwhile
        incoming.open_image(1).write(b"half")
        store.stage("b", 1, NOON_UTC).journal(b"{}")


def aside(out: Path) -> dict[str, bytes]:
    """Return the answers that were set aside."""
    folder = ".gemini_batch/set-aside/"
    return {
        name.removeprefix(folder): data
        for name, data in tree(out).items()
        if name.startswith(folder)
    }


@pytest.mark.parametrize("ends", [Killed, MemoryError, RecursionError])
def test_an_answer_that_ends_two_runs_is_set_aside(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, ends: type[BaseException]
) -> None:
    """An answer whose processing ends the process is tried by two runs; the third one keeps it with its image, names it, and goes on."""
    keep_an_answer(desk)

    def dies(*_arguments: Any) -> Any:
        raise ends

    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "parse_answer", dies)
        for _ in range(2):
            with suppress(BaseExceptionGroup, ends):
                desk.run()
            assert aside(desk.out) == {}
            assert not list((desk.out / "images").glob("a.*"))

    summary = desk.run()

    assert summary.by_status == {"succeeded": 3}
    assert "a" in desk.sent()
    found = aside(desk.out)
    assert set(found) == {"answer.1", "answer.1.image-0"}
    assert found["answer.1.image-0"] == png("kept")
    assert WHOLE in found["answer.1"]
    messages = [event.message for event in desk.events if isinstance(event, Repaired)]
    assert any("set-aside/answer.1" in message for message in messages)


def test_an_answer_whose_run_was_killed_once_is_used(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed by chance while it takes an answer leaves it for the next one, which pays nothing for it."""
    keep_an_answer(desk)
    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "parse_answer", lambda *_arguments: (_ for _ in ()).throw(Killed))
        with pytest.raises((Killed, BaseExceptionGroup)):
            desk.run()

    summary = desk.run()

    assert summary.by_status == {"succeeded": 3}
    assert "a" not in desk.sent()
    assert tree(desk.out)["images/a.png"] == png("kept")
    assert aside(desk.out) == {}


def test_an_answer_that_gives_no_result_is_set_aside(desk: Desk) -> None:
    """A kept answer that turns out to be none is kept beside, named, and its call is sent again."""
    keep_an_answer(desk, b'{"candidates":')

    summary = desk.run()

    assert summary.by_status == {"succeeded": 3}
    assert "a" in desk.sent()
    assert "answer.1" in aside(desk.out)
    assert any(
        "a: the answer that had arrived gives no result" in event.message
        for event in desk.events
        if isinstance(event, Repaired)
    )


def test_an_answer_stays_while_the_disk_refuses_its_row(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that refuses the row, for any number of runs, is no fault of the answer."""
    keep_an_answer(desk)

    def refuse(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ResultsFile, "append", refuse)
        for _ in range(4):
            assert desk.run().exit_code == 8
    summary = desk.run()
    assert summary.by_status == {"succeeded": 3}
    assert tree(desk.out)["images/a.png"] == png("kept")


def test_a_kill_behind_a_picture_loses_nothing(desk: Desk) -> None:
    """A run that is killed while the end of an answer is awaited leaves its picture; the next one pays nothing for it."""
    keep_an_answer(desk, WHOLE[: WHOLE.index(b"}")], is_whole=False)

    summary = desk.run()

    assert summary.by_status == {"succeeded": 3}
    assert "a" not in desk.sent()
    assert tree(desk.out)["images/a.png"] == png("kept")
    assert [row["is_cut"] for row in newest_rows(desk.out) if row["id"] == "a"] == [True]
    assert not [*(desk.out / ".gemini_batch/incoming").iterdir()]


def test_a_cancelled_run_keeps_a_picture_that_is_whole(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is broken off while the end of an answer is awaited leaves its picture for the next one."""

    async def stalls(_self: object, call: Call, incoming: StagedAnswer, *_: object) -> None:
        if call.id == "a":
            image = incoming.open_image(0)
            image.write(png("kept"))
            image.close()
            incoming.journal(WHOLE[: WHOLE.index(b"}")], is_whole=False)
        await asyncio.sleep(1_000_000)

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedTransport, "send", stalls)
        desk.run(cancel_at_s=5.0)

    summary = desk.run()
    assert summary.by_status == {"succeeded": 3}
    assert "a" not in desk.sent()
    assert tree(desk.out)["images/a.png"] == png("kept")
