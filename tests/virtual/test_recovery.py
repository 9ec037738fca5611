import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.engine import recovery
from gemini_batch.engine.recovery import accept_loss, lost_rows, possibly_billed, recover
from gemini_batch.errors import StorageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog, unacknowledged
from gemini_batch.output.rows import newest_rows, read_rows
from gemini_batch.records import Status
from tests.builders import (
    arrive,
    line_of,
    make_row,
    png,
    sha256,
    tree,
)


def written(store: OutputFolder, *rows: bytes, durable: int | None) -> int:
    """Write `results.jsonl` and the note of what is durable; return the size."""
    data = b"".join(rows)
    (store.out / "results.jsonl").write_bytes(data)
    if durable is not None:
        store.note_durable(durable)
    return len(data)


def rows_of(store: OutputFolder) -> list[tuple[str, str]]:
    """Return id and status of all rows."""
    return [(row["id"], row["status"]) for row in read_rows(store.out)]


def described(path: str, data: bytes) -> Any:
    """Return what a row says of an image."""
    return {
        "path": path,
        "sha256": sha256(data),
        "size_bytes": len(data),
        "mime_type": "",
        "width": 1,
        "height": 1,
    }


def image_row(
    call_id: str, data: bytes, *drafts: bytes, extension: str = ".png", **changes: Any
) -> bytes:
    """Return the row of an image and its drafts."""
    return line_of(
        make_row(
            call_id,
            images=[described(f"images/{call_id}{extension}", data)],
            drafts=[
                described(f"drafts/{call_id}.{number}.png", draft)
                for number, draft in enumerate(drafts, 1)
            ],
            **changes,
        )
    )


def place(store: OutputFolder, path: str, data: bytes) -> None:
    """Put an image in its place."""
    (store.out / path).parent.mkdir(parents=True, exist_ok=True)
    (store.out / path).write_bytes(data)


def images_in(store: OutputFolder) -> dict[str, bytes]:
    """Return all images, of all folders, with their bytes."""
    return {name: data for name, data in tree(store.out).items() if name.endswith((".png", ".jpg"))}


def recover_twice(store: OutputFolder) -> list[str]:
    """Recover; doing so again must find nothing to do."""
    done = recover(store)
    after = tree(store.out)
    assert recover(store) == []
    assert after == tree(store.out)
    return done


# --- the end of the file ----------------------------------------------------------------------------------------------


def test_a_new_folder_needs_nothing(store: OutputFolder) -> None:
    """Where nothing ever ran nothing is repaired, and from then on there is a note."""
    assert recover_twice(store) == []
    assert store.durable_bytes() == 0


def test_a_clean_folder_is_left_alone(store: OutputFolder) -> None:
    """After a run that ended well nothing is changed, and no image is looked for again."""
    size = written(store, image_row("robot", png("gone by now")), durable=0)
    store.note_durable(size)
    before = tree(store.out)

    assert recover(store) == []
    assert before == tree(store.out)


ROBOT, CAT = line_of(make_row("robot", Status.BLOCKED)), line_of(make_row("cat", Status.BLOCKED))


@pytest.mark.parametrize(
    "tail",
    [
        b'{"id": "torn',
        ROBOT[:-20],
        bytes(4096),
        b"\xff\xfe\x00garbage\n",
        b'{"not": "ours"}\n',
        bytes(10) + b"\n",
    ],
    ids=["begun", "torn", "zeros", "binary", "foreign", "zero line"],
)
def test_a_damaged_end_is_cut_off_and_kept(store: OutputFolder, tail: bytes) -> None:
    """What is no row at the file's end is taken out and kept beside; each row stays."""
    durable = written(store, ROBOT, CAT, tail, durable=len(ROBOT)) - len(tail)

    (message,) = recover_twice(store)

    assert (store.out / "results.jsonl").read_bytes() == ROBOT + CAT
    assert tail == (store.private / "torn-results.1").read_bytes()
    assert f"the last {len(tail)} bytes are in" in message.replace(",", "")
    assert store.durable_bytes() == durable


def test_rows_behind_a_hole_are_kept(store: OutputFolder) -> None:
    """After a power cut there may be a hole with whole rows behind it: they were paid for, and stay."""
    dog = line_of(make_row("dog", Status.BLOCKED))
    written(store, ROBOT, bytes(100), b"\n", CAT, b"{torn\n", dog[:-1], durable=len(ROBOT))

    recover_twice(store)

    assert ROBOT + CAT + dog == (store.out / "results.jsonl").read_bytes()


def test_a_whole_row_without_its_line_break_is_kept(store: OutputFolder) -> None:
    """An editor that drops the last line break drops no row."""
    size = written(store, ROBOT, CAT[:-1], durable=None)
    store.note_durable(size + 1)

    recover_twice(store)

    assert (store.out / "results.jsonl").read_bytes() == ROBOT + CAT


def test_a_damaged_row_that_was_durable_is_refused(store: OutputFolder) -> None:
    """A bad line before the durable offset is corruption: it is named, and nothing at all is changed."""
    size = written(store, ROBOT, b"damaged\n", CAT, b"torn", durable=0)
    store.note_durable(size - 4)
    arrive(store, "dog", png(""))
    before = tree(store.out)

    with pytest.raises(StorageError, match=r"results\.jsonl:2: not a row"):
        recover(store)

    assert before == tree(store.out)


@pytest.mark.parametrize("off", [-3, 3])
def test_an_edited_file_loses_no_row(store: OutputFolder, off: int) -> None:
    """When a person edited the file the noted offset may be inside a line: that line is whole, and stays."""
    written(store, ROBOT, CAT, durable=len(ROBOT) + off)

    assert recover_twice(store) == []
    assert (store.out / "results.jsonl").read_bytes() == ROBOT + CAT


@pytest.mark.parametrize("left", [0, 1, None])
def test_rows_that_are_gone_are_missed(store: OutputFolder, left: int | None) -> None:
    """A file that was cut off, emptied or removed is missed, in every run, until the loss is accepted."""
    lines = [line_of(make_row(name)) for name in "ab"]
    written(store, *lines[: left or 0], durable=len(b"".join(lines)))
    if left is None:
        (store.out / "results.jsonl").unlink()
    for _ in range(2):
        assert recover(store) == []
        message = lost_rows(store)
        assert str(store.out / "results.jsonl") in message
        assert f"had {len(b''.join(lines)):,} " in message
    accept_loss(store)
    assert lost_rows(store) == ""


def test_a_removed_note_voids_nothing(store: OutputFolder) -> None:
    """Who removes .gemini_batch, and has moved the images away, does not pay for them again; a torn end is mended all the same."""
    written(store, image_row("robot", png("1")), b"torn", durable=None)

    assert len(recover_twice(store)) == 1
    assert rows_of(store) == [("robot", "succeeded")]


def test_a_long_line_before_the_offset(store: OutputFolder) -> None:
    """The line that an offset is in is found though it is longer than a block."""
    long = line_of(make_row("long", Status.BLOCKED, text="x" * 200_000))
    written(store, ROBOT, long, durable=len(ROBOT) + 150_000)

    assert recover_twice(store) == []
    assert rows_of(store) == [("robot", "blocked"), ("long", "blocked")]


# --- rows and their images --------------------------------------------------------------------------------------------


def test_a_missed_rename_is_rolled_forward(store: OutputFolder) -> None:
    """An image whose row was written and whose name was not yet given gets its name, the extension that the row says, and drafts."""
    written(store, image_row("icons/robot", png("1"), png("2"), extension=".jpg"), durable=0)
    arrive(store, "icons/robot", png("1"), png("2"))

    assert recover_twice(store) == ["icons/robot: its image had arrived and is published now"]
    assert {"images/icons/robot.jpg": png("1"), "drafts/icons/robot.1.png": png("2")} == images_in(
        store
    )


def test_a_kill_between_image_and_draft(store: OutputFolder) -> None:
    """What has its name already keeps it, what has not gets it."""
    written(store, image_row("robot", png("1"), png("2"), png("3")), durable=0)
    place(store, "images/robot.png", png("1"))
    place(store, "drafts/robot.1.png", png("2"))
    arrive(store, "robot", b"", b"", png("3"))

    recover_twice(store)

    names = ["images/robot.png", "drafts/robot.1.png", "drafts/robot.2.png"]
    assert dict(zip(names, [png("1"), png("2"), png("3")], strict=True)) == images_in(store)


def test_two_images_of_the_same_bytes(store: OutputFolder) -> None:
    """An image and a draft that are equal each get a part of their own."""
    written(store, image_row("robot", png("1"), png("1")), durable=0)
    arrive(store, "robot", png("1"), png("1"))

    recover_twice(store)

    assert {"images/robot.png": png("1"), "drafts/robot.1.png": png("1")} == images_in(store)


@pytest.mark.parametrize("old", [".png", ".jpg"])
def test_the_image_of_an_edited_call_is_kept(store: OutputFolder, old: str) -> None:
    """The image of the earlier request, still in place, moves to superseded/; its successor gets the name."""
    first = image_row("robot", png("old"), png("draft"), extension=old)
    written(store, first, image_row("robot", png("new")), durable=len(first))
    place(store, f"images/robot{old}", png("old"))
    place(store, "drafts/robot.1.png", png("draft"))
    arrive(store, "robot", png("new"))

    recover_twice(store)

    assert {
        "images/robot.png": png("new"),
        f"superseded/robot{old}": png("old"),
        "superseded/drafts/robot.1.png": png("draft"),
    } == images_in(store)


def test_an_answer_without_an_image_retires_the_earlier_one(store: OutputFolder) -> None:
    """The image of a request that was edited, and then blocked, is not shown as if it were the new one's."""
    first = image_row("robot", png("old"))
    written(store, first, ROBOT, durable=len(first))
    place(store, "images/robot.png", png("old"))

    recover_twice(store)

    assert {"superseded/robot.png": png("old")} == images_in(store)


@pytest.mark.parametrize("left", [None, b"", bytes(9), png("2")])
def test_an_image_that_did_not_survive_voids_its_row(
    store: OutputFolder, left: bytes | None
) -> None:
    """A row whose image's bytes are gone, or are others, gets a `lost` row behind it: the call runs again."""
    written(store, image_row("robot", png("1")), CAT, durable=0)
    if left is not None:
        arrive(store, "robot", left)

    messages = recover_twice(store)

    assert messages[0] == "robot: its image did not survive; the call is sent, and paid for, again"
    assert rows_of(store) == [("robot", "succeeded"), ("cat", "blocked"), ("robot", "lost")]
    assert [(row["id"], row["status"]) for row in newest_rows(store.out)] == [
        ("cat", "blocked"),
        ("robot", "lost"),
    ]
    assert store.durable_bytes() == (store.out / "results.jsonl").stat().st_size


def test_a_half_image_in_place_is_not_taken_for_whole(store: OutputFolder) -> None:
    """A file of the right name and other bytes, as a power cut leaves it, is no image of the row; it is kept when the next one comes."""
    written(store, image_row("robot", png("1")), durable=0)
    place(store, "images/robot.png", bytes(9))

    recover_twice(store)

    assert rows_of(store)[-1] == ("robot", "lost")


def test_only_rows_after_the_durable_offset_are_looked_at(store: OutputFolder) -> None:
    """An image that a person moved or deleted later voids no row."""
    first = image_row("robot", png("1"))
    written(store, first, image_row("cat", png("2")), durable=len(first))
    place(store, "images/cat.png", png("2"))

    assert recover_twice(store) == []
    assert rows_of(store) == [("robot", "succeeded"), ("cat", "succeeded")]


def test_bytes_are_durable_before_the_name_is(
    store: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part is synced before its rename, rows before folders, and the note comes last."""
    written(store, image_row("robot", png("1")), durable=0)
    arrive(store, "robot", png("1"))
    deeds: list[str] = []
    for name in ("rename", "fsync", "fdatasync", "pwrite"):
        monkeypatch.setattr(os, name, recording(deeds, name, getattr(os, name)))

    recover(store)

    kinds = [deed for deed, after in zip(deeds, [*deeds[1:], ""], strict=True) if deed != after]
    assert kinds == ["fsync", "rename", "fsync", "fdatasync", "fsync", "pwrite"]


def recording(deeds: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a list of its calls."""

    def call(*arguments: Any, **options: Any) -> Any:
        deeds.append(name)
        return function(*arguments, **options)

    return call


# --- what was in flight -----------------------------------------------------------------------------------------------


def test_half_received_images_are_removed_and_counted(store: OutputFolder) -> None:
    """Parts that no row names are no results: they are removed, and one line says how many; with and without a file of rows."""
    arrive(store, "robot", png("1"), png("2"))
    (message,) = recover_twice(store)
    assert "2 staged images without a row removed" in message

    store.note_durable(written(store, ROBOT, durable=None))
    arrive(store, "robot", png("1"))
    (message,) = recover_twice(store)
    assert "1 staged image without a row removed" in message


def test_calls_in_flight_are_named(store: OutputFolder) -> None:
    """What was sent and has neither an end nor a row may have been billed; an older row of the same call is no answer."""
    old = written(store, ROBOT, line_of(make_row("lost")), durable=0)
    log = InFlightLog(store.private, old)
    for call_id in ("robot", "cat", "dog", "bird", "lost"):
        log.sent(call_id, "a" * 64, old)
    log.ended("dog")
    log.close()
    with (store.out / "results.jsonl").open("ab") as file:
        file.write(CAT + line_of(make_row("lost", Status.LOST)))

    assert possibly_billed(store) == {"robot": "a" * 64, "bird": "a" * 64, "lost": "a" * 64}


def test_rows_from_before_a_call_was_sent_are_not_read_for_it(
    store: OutputFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million rows only those are read again behind which the first unanswered call was sent."""
    log, places = InFlightLog(store.private, 0), [0]
    for row in (ROBOT, CAT, line_of(make_row("dog"))):
        call_id = orjson.loads(row)["id"]
        log.sent(call_id, "a" * 64, places[-1])
        places.append(places[-1] + len(row))
        if call_id == "robot":
            log.ended(call_id)
    log.close()
    written(store, ROBOT, CAT, line_of(make_row("dog")), durable=places[-1])
    seen: list[int] = []

    def spy(out: Path, start: int) -> Iterator[dict[str, Any]]:
        seen.append(start)
        return read_rows(out, start)

    monkeypatch.setattr(recovery, "read_rows", spy)

    assert possibly_billed(store) == {}
    assert seen == [places[1]]


def test_a_call_that_is_sent_again_is_in_flight_again(store: OutputFolder) -> None:
    """The last note of a call counts."""
    log = InFlightLog(store.private, 0)
    log.sent("robot", "a", 0)
    log.ended("robot")
    log.sent("robot", "a", 0)
    log.close()

    assert possibly_billed(store) == {"robot": "a"}


def test_a_torn_note_spoils_no_other(store: OutputFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk takes half a note, the request must not leave, and the notes around it still count."""
    log = InFlightLog(store.private, 0)
    log.sent("robot", "a", 0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    with pytest.raises(OSError, match="No space left"):
        log.sent("cat", "b", 0)
    monkeypatch.setattr(os, "write", write)
    log.sent("dog", "c", 0)
    log.ended("robot")
    log.close()

    assert possibly_billed(store) == {"dog": "c"}


@pytest.mark.parametrize(
    "content", [b"", bytes(100), b"\n[[]]\n{}\nnull\n\xff\n[1,2]", b"\n-5", b"\ntrue"]
)
def test_a_damaged_log_is_no_error(store: OutputFolder, content: bytes) -> None:
    """The log is not synced: after a power cut anything may be in it."""
    written(store, ROBOT, durable=0)
    (store.private / "inflight.jsonl").write_bytes(content)

    assert unacknowledged(store.private).calls == {}
    assert possibly_billed(store) == {}
