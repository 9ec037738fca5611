import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.errors import StorageError
from gemini_batch.output.history import History
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.row_lines import parse_row, row_of
from gemini_batch.output.rows import RowReader, marked_rows, newest_rows, placed_rows, read_rows
from gemini_batch.records import ImageFile, Status, exact_json
from tests.builders import ENDPOINT, line_of, make_row, sha256

ROBOT = sha256(b"A robot")


def write_rows(out: Path, *rows: bytes) -> None:
    """Write `results.jsonl`."""
    (out / "results.jsonl").write_bytes(b"".join(rows))


# --- numbers ---


def test_the_numbers_of_metadata_are_kept(tmp_path: Path) -> None:
    """A row that is read and written again, as after a crash, has the same numbers."""
    text = b'{"a":123456789012345678901234,"b":[0.1000000000000000055,1e-400]}'
    metadata = exact_json.loads(text)
    log = ResultsFile(tmp_path)
    log.append(make_row("robot", metadata=metadata))
    line = (tmp_path / "results.jsonl").read_bytes()
    (row,) = read_rows(tmp_path)
    log.append(row)
    log.close()
    assert text in line
    assert (tmp_path / "results.jsonl").read_bytes() == line * 2
    assert row_of(row).metadata == {"a": 123456789012345678901234, "b": [0.1, 0.0]}


def test_numbers_beside_metadata_stay_python_s_own() -> None:
    """Only what users wrote is kept as it was; a text that looks like metadata changes nothing."""
    row = make_row("robot", prompt='"metadata": 12345678901234567890123', metadata={"a": 2**63})
    found = parse_row(line_of(row))
    assert found is not None
    assert found["metadata"] == {"a": 2**63}
    spaced = line_of(row).replace(b'"metadata":{"a":', b'"metadata" : {"a" : 9')
    kept = parse_row(spaced)
    assert kept is not None
    assert kept["metadata"] == {"a": exact_json.Number(f"9{2**63}")}


# --- writing ---


def test_a_row_is_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is appended in one piece, with times in UTC with a Z."""
    write_rows(tmp_path, line_of(make_row("old")))
    written: list[bytes] = []
    write = os.write

    def record(fd: int, data: bytes) -> int:
        written.append(data)
        return write(fd, data)

    monkeypatch.setattr(os, "write", record)
    log = ResultsFile(tmp_path)

    log.append(make_row("robot"))
    log.sync()
    log.close()

    assert [line_of(make_row("robot"))] == written
    assert [row["id"] for row in read_rows(tmp_path)] == ["old", "robot"]
    assert log.end_bytes == (tmp_path / "results.jsonl").stat().st_size
    assert orjson.loads(written[0])["finished_at"] == "2026-11-22T20:00:00Z"


Write = Callable[[int, bytes], int]


def no_room(_fd: int, _data: bytes, _write: Write) -> int:
    """Write nothing."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(fd: int, data: bytes, write: Write) -> int:
    """Write half, and return so."""
    return write(fd, data[: len(data) // 2])


def half_then_error(fd: int, data: bytes, write: Write) -> int:
    """Write half, and fail."""
    write(fd, data[: len(data) // 2])
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("fault", [no_room, half, half_then_error])
def test_a_row_that_does_not_fit_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., int]
) -> None:
    """After a torn write the file ends where it did before, and the next row is complete."""
    log, write = ResultsFile(tmp_path), os.write
    log.append(make_row("first"))
    monkeypatch.setattr(os, "write", lambda fd, data: fault(fd, data, write))
    with pytest.raises(OSError, match=r"No space left|Input/output"):
        log.append(make_row("second"))
    monkeypatch.setattr(os, "write", write)

    assert line_of(make_row("first")) == (tmp_path / "results.jsonl").read_bytes()
    log.append(make_row("third"))
    assert [row["id"] for row in read_rows(tmp_path)] == ["first", "third"]
    log.close()


def test_no_row_follows_a_torn_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a torn row can't be removed, no row follows it until it is."""
    log, write, ftruncate = ResultsFile(tmp_path), os.write, os.ftruncate

    def refuse(_fd: int, _size: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "write", lambda fd, data: half(fd, data, write))
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="Input/output"):
        log.append(make_row("first"))
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match="Input/output"):
        log.append(make_row("second"))
    monkeypatch.setattr(os, "ftruncate", ftruncate)
    log.append(make_row("third"))
    log.close()

    assert line_of(make_row("third")) == (tmp_path / "results.jsonl").read_bytes()


def test_a_closed_file_is_not_synced(tmp_path: Path) -> None:
    """A sync after the close fails: the descriptor may belong to another file."""
    log = ResultsFile(tmp_path)
    log.close()

    with pytest.raises(OSError, match="Bad file descriptor"):
        log.sync()


# --- reading ---


def test_the_newest_row_counts(tmp_path: Path) -> None:
    """The last row of an id counts."""
    write_rows(
        tmp_path,
        line_of(make_row("robot", Status.FAILED)),
        line_of(make_row("cat", Status.BLOCKED)),
        line_of(make_row("robot", Status.SUCCEEDED)),
    )
    history = History(read_rows(tmp_path))

    assert (
        history.status("robot", ROBOT, ENDPOINT),
        history.status("cat", ROBOT, ENDPOINT),
    ) == (Status.SUCCEEDED, Status.BLOCKED)
    assert [(row["id"], row["status"]) for row in newest_rows(tmp_path)] == [
        ("cat", "blocked"),
        ("robot", "succeeded"),
    ]


@pytest.mark.parametrize(
    "status", [each for each in Status if each not in (Status.LATE, Status.PRUNED)]
)
def test_history_keeps_every_status(tmp_path: Path, status: Status) -> None:
    """Each status is read as it was written, and only answers were paid for."""
    write_rows(tmp_path, line_of(make_row("robot", status)))
    history = History(read_rows(tmp_path))

    assert status is history.status("robot", ROBOT, ENDPOINT)
    assert (status in {Status.SUCCEEDED, Status.BLOCKED}) == history.was_answered("robot")


def test_another_request_or_server_is_not_done(tmp_path: Path) -> None:
    """A row counts only for its request and endpoint."""
    write_rows(tmp_path, line_of(make_row("robot")))
    history = History(read_rows(tmp_path))

    assert history.status("robot", sha256(b"another"), ENDPOINT) is None
    assert history.status("robot", ROBOT, "simulator") is None
    assert history.status("cat", ROBOT, ENDPOINT) is None
    assert history.was_answered("robot")
    assert not history.was_answered("cat")


def test_nothing_is_an_empty_history(tmp_path: Path) -> None:
    """A folder without results has an empty history."""
    assert len(History(read_rows(tmp_path))) == 0


@pytest.mark.parametrize(
    "tail", [b"", b"\n", b'{"id": "torn', line_of(make_row("torn"))[:-1], bytes(100)]
)
def test_a_last_line_without_an_end_is_not_read(tmp_path: Path, tail: bytes) -> None:
    """A last line without end may be in writing, and is skipped; so is an empty line."""
    write_rows(tmp_path, line_of(make_row("robot")), tail)

    assert [row["id"] for row in read_rows(tmp_path)] == ["robot"]


@pytest.mark.parametrize(
    "bad",
    [
        b"not JSON\n",
        b"[]\n",
        b'{"id": "x"}\n',
        bytes(50) + b"\n",
        line_of(make_row()).replace(b'"succeeded"', b'"splendid"'),
        line_of(make_row()).replace(b'"images":[]', b'"images":[{"path":1}]'),
        line_of(make_row()).replace(b'"drafts":[]', b'"drafts":{}'),
    ],
)
def test_a_line_that_is_no_row_is_refused_with_its_number(tmp_path: Path, bad: bytes) -> None:
    """A damaged line is an error that names its place and the remedy."""
    write_rows(tmp_path, line_of(make_row("a")), bad, line_of(make_row("b")))

    with pytest.raises(
        StorageError, match=r"results\.jsonl:2: not a row: .* repair or remove that line"
    ):
        History(read_rows(tmp_path))


def test_reading_between_two_places(tmp_path: Path) -> None:
    """Only the rows between two places are read; damage behind them does not matter."""
    lines = [line_of(make_row(name)) for name in "abc"]
    write_rows(tmp_path, b"damaged\n", *lines, b"damaged\n")
    start, end = len(b"damaged\n"), len(b"damaged\n") + sum(map(len, lines))

    assert [row["id"] for row in read_rows(tmp_path, start, end)] == ["a", "b", "c"]
    assert list(read_rows(tmp_path, 0, 0)) == []


def test_a_row_is_read_as_it_was_written() -> None:
    """A row is read as it was written."""
    row: dict[str, Any] | None = parse_row(
        line_of(make_row("icons/röbot", metadata={"a": [1, None]}))
    )

    assert row is not None
    assert (row["id"], row["metadata"]) == ("icons/röbot", {"a": [1, None]})


@pytest.mark.parametrize(
    "path", ["../robot.png", "images/../../robot.png", "/etc/passwd", "images/a\0.png"]
)
def test_a_row_that_leads_out_of_the_folder_is_none(path: str) -> None:
    """A line that names a file outside the folder is damaged."""
    file = ImageFile(path, "image/png", 1, 1, 1, "0" * 64)

    assert parse_row(line_of(make_row(images=[replace(file, path="images/a..b.png")]))) is not None
    assert parse_row(line_of(make_row(images=[file]))) is None
    assert parse_row(line_of(make_row(drafts=[file]))) is None


def test_the_newest_row_of_each_id_is_marked(tmp_path: Path) -> None:
    """Of rows in any order of ids, late and torn ones included, one an id is the newest."""
    late, pruned = make_row("b", Status.LATE), make_row("c", Status.PRUNED)
    rows = [make_row(call_id) for call_id in ('a"', "b", 'a"', "c", "ü", "d")]
    torn = line_of(make_row("d"))[:-1]
    (tmp_path / "results.jsonl").write_bytes(b"".join(map(line_of, [*rows, late, pruned])) + torn)

    marked = [(row["id"], is_newest) for is_newest, row in marked_rows(tmp_path)]

    assert marked == [
        ('a"', False),
        ("b", True),
        ('a"', True),
        ("c", False),
        ("ü", True),
        ("d", True),
        ("b", False),
        ("c", False),
    ]


@pytest.mark.parametrize("prompt_chars", [1, 1_000, 5_000, 100_000])
def test_a_row_is_read_at_its_place(tmp_path: Path, prompt_chars: int) -> None:
    """A row of any size is read again, by a file that is opened once; a torn or gone one is none."""
    rows = [make_row(call_id, prompt="x" * prompt_chars) for call_id in "abc"]
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(map(line_of, rows)))
    places = [place for place, _ in placed_rows(tmp_path)]
    reader = RowReader(tmp_path)
    path.unlink()

    assert reader.at(places[0]) is None
    path.write_bytes(b"".join(map(line_of, rows))[:-2])
    assert [(reader.at(place) or {}).get("id") for place in places] == ["a", "b", None]
    assert reader.at(path.stat().st_size) is None
