"""Rows of long files: what is read in less time is what careful reading gives."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import StorageError
from gemini_batch.output import brief_rows
from gemini_batch.output.brief_rows import parse_brief
from gemini_batch.output.final_rows import Noting, by_column, note_all
from gemini_batch.output.history import History
from gemini_batch.output.row_lines import parse_row
from gemini_batch.output.rowless import RowlessImages
from gemini_batch.output.rows import marked_rows, placed_rows
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.plan.open_rows import OpenRows
from gemini_batch.records import ImageFile, Status
from tests.builders import ENDPOINT, line_of, make_row, sha256

FILE = ImageFile("images/robot.png", "image/png", 70, 1, 1, sha256(b"x"))
ROWS = [
    make_row("robot", images=[FILE], metadata={"sku": "Zoë", "n": 1}, text='"id":"x" \\ \n'),
    make_row("größe", prompt="可爱", drafts=[replace(FILE, path="drafts/a.png")]),
    make_row("failed", status=Status.FAILED, remote_images=["gs://bucket/a.png"]),
    make_row("late", status=Status.LATE, route="batch", cost_usd=None),
]
LINES = [*map(line_of, ROWS)]
ODD = {
    "no row": b"[]\n",
    "no JSON": LINES[0][:-3] + b"\n",
    "a path out of the folder": LINES[0].replace(b"images/robot", b"../robot"),
    "an absolute path of a draft": LINES[1].replace(b"drafts/a", b"/a"),
    "a status of another version": LINES[0].replace(b'"succeeded"', b'"done"'),
    "a cost as text": re.sub(rb'"cost_usd":[^,]+', b'"cost_usd":"1"', LINES[0]),
    "a cost as a truth value": re.sub(rb'"cost_usd":[^,]+', b'"cost_usd":true', LINES[0]),
    "attempts with a fraction": re.sub(rb'"attempts":\d+', b'"attempts":1.0', LINES[0]),
    "an id twice": LINES[0].replace(b"{", b'{"id":"other",', 1),
    "no id": LINES[0].replace(b'"id"', b'"key"', 1),
    "a text that is not UTF-8": LINES[0].replace("Zoë".encode(), b"Zo\xeb"),
    "half an escaped character": LINES[0].replace("Zoë".encode(), rb"\ud83d"),
    "a control character in a text": LINES[0].replace("Zoë".encode(), b"\x01"),
    "spaces between": LINES[0].replace(b'":', b'" : '),
    "a field of a later version": LINES[0].replace(b"{", b'{"later":[{"a":null}],', 1),
    "none of the fields that came later": re.sub(rb',"reused_from".*', b"}\n", LINES[0]),
    "a model that is no text": re.sub(rb'"model":"[^"]*"', b'"model":7', LINES[0]),
    "a route that is no text": LINES[0].replace(b'"interactive"', b"7"),
    "nested deeply": LINES[0].replace(b'"n":1', b'"n":' + b"[" * 2_000 + b"]" * 2_000),
}
NAMES = (
    "id",
    "status",
    "line",
    "cost_usd",
    "endpoint",
    "request_sha256",
    "attempts",
    "finished_at",
)
MORE = ("model", "response_id", "remote_images", "service_tier", "route", "reused_from", "inputs")
WHY = ("error", "block_reason", "finish_reason", "finish_message")


def same(row: dict[str, Any] | None) -> object:
    """Return all that a brief row has."""
    if row is None:
        return None
    files = [
        [(file["path"], file["sha256"], file["size_bytes"]) for file in row[name]]
        for name in ("images", "drafts")
    ]
    tokens = (row["usage"] or {}).get("total_tokens")
    values = [(type(row.get(name)), row.get(name)) for name in (*NAMES, *MORE, *WHY)]
    return values, files, tokens


@pytest.mark.parametrize("line", [*LINES, *ODD.values()], ids=[*"0123", *ODD])
def test_a_brief_row_is_the_row(line: bytes) -> None:
    """A line has a brief row where it has a row, with the same values."""
    assert same(parse_brief(line)) == same(parse_row(line))


@given(st.data())
def test_a_brief_row_of_a_damaged_line_is_the_row(data: st.DataObject) -> None:
    """A line with any bytes replaced is a row for both readers, or for none."""
    line = data.draw(st.sampled_from(LINES))
    start = data.draw(st.integers(0, len(line)))
    size = data.draw(st.integers(0, 20))
    piece = st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"\\u12", b"{", b"9", b"\xc3"]))
    line = line[:start] + data.draw(piece) + line[start + size :]
    assert same(parse_brief(line)) == same(parse_row(line))


@pytest.fixture
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brief_rows, "MIN_BYTES", 0)


@pytest.mark.usefixtures("_of_any_size")
@pytest.mark.parametrize("name", ODD)
def test_a_long_file_is_read_as_a_short_one(name: str, tmp_path: Path) -> None:
    """Places, newest rows, and the error of a damaged file do not depend on the file's size."""
    (tmp_path / "results.jsonl").write_bytes(b"".join((*LINES, ODD[name], LINES[0])))

    def found(*, brief: bool) -> object:
        try:
            placed = [(place, same(row)) for place, row in placed_rows(tmp_path, brief=brief)]
            return placed, [(new, same(row)) for new, row in marked_rows(tmp_path, brief=brief)]
        except StorageError as error:
            return str(error)

    assert found(brief=True) == found(brief=False)


def noted(out: Path, note: Callable[[list[Noting]], None]) -> object:
    """Return what is known of the rows of a folder, once they were noted."""
    history, open_rows = History(), OpenRows()
    unfetched, rowless = Unfetched(out, ENDPOINT), RowlessImages(out)
    note([history, open_rows, unfetched, rowless])
    calls = sorted({row["id"] for _, row in placed_rows(out)})
    request = ROWS[0].request_sha256
    return (
        history.statuses(calls, [request] * len(calls), ENDPOINT),
        [history.batch_tries(call) for call in calls],
        history.has_pruned,
        (open_rows.recent, open_rows.before_recent(), open_rows.is_usable),
        [unfetched.has(call, request) for call in calls],
        [rowless.has(call) for call in calls],
    )


KINDS = st.sampled_from(
    [{"status": status, "route": route} for status in Status for route in ("interactive", "batch")]
    + [{"status": Status.FAILED, "remote_images": ["gs://bucket/a.png"]}, {"endpoint": "other"}]
)


@given(st.lists(st.tuples(st.sampled_from(["a", "ä", "b/c"]), KINDS), max_size=12))
@pytest.mark.usefixtures("_of_any_size")
def test_rows_by_column_say_what_single_ones_say(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, dict[str, Any]]]
) -> None:
    """History, open rows, answers to be fetched and images without a row are the same."""
    out = tmp_path_factory.mktemp("out")
    (out / "images").mkdir()
    for name in ("a.png", "ä.jpg"):
        (out / "images" / name).touch()
    lines = [
        line_of(make_row(call, images=[replace(FILE, path=f"images/{call}.{extension}")], **kind))
        for number, (call, kind) in enumerate(rows)
        for extension in (("png", "jpg", "gif")[number % 3],)
    ]
    (out / "results.jsonl").write_bytes(b"".join(lines))

    def one_by_one(notings: list[Noting]) -> None:
        for place, row in placed_rows(out):
            for noting in notings:
                noting.note(place, row)

    def at_once(notings: list[Noting]) -> None:
        note_all(by_column(placed_rows(out, brief=True)), notings)

    assert noted(out, at_once) == noted(out, one_by_one)
