"""The file of rows as other programs rewrite it: named as what it is, and left alone."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.engine.recovery import recover
from gemini_batch.errors import StorageError
from gemini_batch.output import OutputFolder
from gemini_batch.output.rows import read_rows
from tests.builders import line_of, make_row

LINES = [line_of(make_row(name)) for name in "abc"]
BODY = b"".join(LINES)
ROWS: list[dict[str, Any]] = [json.loads(line) for line in LINES]

FORMS: dict[str, tuple[Callable[[], bytes], str]] = {
    "jq -s": (
        lambda: json.dumps(ROWS, indent=2).encode() + b"\n",
        r"one JSON array.*jq -c '\.\[\]'",
    ),
    "jq -sc": (lambda: json.dumps(ROWS).encode() + b"\n", "one JSON array"),
    "json.dump": (lambda: json.dumps(ROWS).encode(), "one JSON array"),
    "an array of none": (lambda: b"[]\n", "one JSON array"),
    "jq": (
        lambda: b"".join(json.dumps(row, indent=2).encode() + b"\n" for row in ROWS),
        r"rows over several lines.*jq -c \.",
    ),
    "jq --tab": (
        lambda: b"".join(json.dumps(row, indent="\t").encode() + b"\n" for row in ROWS),
        "rows over several lines",
    ),
    "one of them alone, over several lines": (
        lambda: json.dumps(ROWS[0], indent=1).encode(),
        "rows over several lines",
    ),
    "jq -j": (lambda: BODY.replace(b"\n", b""), "several rows on one line"),
    "tr": (lambda: BODY.replace(b"\n", b" ") + b"\n", "several rows on one line"),
    "paste -d ,": (lambda: BODY.replace(b"\n", b","), "several rows on one line"),
    "gzip": (lambda: gzip.compress(BODY, mtime=0), "compressed with gzip"),
    "bzip2": (lambda: bz2.compress(BODY), "compressed with bzip2"),
    "xz": (lambda: lzma.compress(BODY), "compressed with xz"),
    "zstd": (lambda: b"\x28\xb5\x2f\xfd" + BODY, "compressed with zstd"),
    "zip": (lambda: b"PK\3\4" + BODY, "ZIP archive"),
    "Notepad": (lambda: b"\xef\xbb\xbf" + BODY, "byte order mark"),
    "PowerShell": (lambda: BODY.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (lambda: BODY.decode().encode("utf-16-le"), "NUL bytes"),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("noted", [len(BODY), 10, None])
def test_a_file_of_another_form_is_named_and_unchanged(
    tmp_path: Path, name: str, noted: int | None
) -> None:
    """Each reader refuses it with what to do, recovery too, whatever was noted of its size."""
    make, says = FORMS[name]
    folder = OutputFolder(tmp_path)
    (tmp_path / "results.jsonl").write_bytes(make())
    with folder.locked():
        if noted is not None:
            folder.note_durable(noted)
        with pytest.raises(StorageError, match=rf"results\.jsonl: .*{says}"):
            list(read_rows(tmp_path))
        with suppress(StorageError):  # it need not look at rows that are all durable
            recover(folder)
    assert (tmp_path / "results.jsonl").read_bytes() == make()
    assert not list(tmp_path.rglob("torn*"))


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b"", ""),
        (b"\n", ""),
        (BODY.removesuffix(b"\n"), "ab"),
        (BODY.replace(b"\n", b"\r\n"), "abc"),
        (b"\n\n" + BODY, "abc"),
        (LINES[0][:40], ""),
        (line_of(make_row("a", text='}{"id":"x"} {"id":')), "a"),
        (
            line_of(make_row("a", metadata={"of": [{"id": "x"}, {"id": "y"}, ROWS[0], ROWS[1]]})),
            "a",
        ),
        (b"\n" + line_of(make_row("a", metadata={"of": [{"id": "x"}, {"id": "y"}]})), "a"),
        (line_of(make_row("a", text="x" * 300_000, metadata={"of": [{"id": "x"}]})), "a"),
    ],
)
def test_rows_in_their_own_form_are_read(tmp_path: Path, body: bytes, ids: str) -> None:
    """An empty file, blank lines, other line ends, a row that is being written: no other form."""
    (tmp_path / "results.jsonl").write_bytes(body)
    assert [row["id"] for row in read_rows(tmp_path)] == list(ids)
