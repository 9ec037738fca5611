"""`export`: copy the pictures of an output folder to another folder or into a ZIP file."""

import csv
import io
import shutil
import zipfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import orjson

from gemini_batch.cli.options import print_result
from gemini_batch.cli.viewing import viewed
from gemini_batch.errors import ConfigError, ExitCode, storage_errors
from gemini_batch.output.files import new_file, open_to_read
from gemini_batch.output.marks import Marks
from gemini_batch.output.paths import IMAGES
from gemini_batch.output.rows import placed_marked_rows
from gemini_batch.output.shards import split_path
from gemini_batch.output.viewed import ViewedFolder
from gemini_batch.progress.formatting import count

INDEX = "index.csv"
_FIELDS = ("id", "file", "prompt", "model", "width", "height", "cost_usd", "finished_at", "sha256")


class Target(Protocol):
    """A place for files, by their names with slashes."""

    def add(self, name: str, source: Path) -> None:
        """Copy a file, unchanged."""

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""


@dataclass(slots=True)
class _Folder:
    folder: Path

    def add(self, name: str, source: Path) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_to_read(source) as file, path.open("xb") as copy:
            shutil.copyfileobj(file, copy)

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


@dataclass(slots=True)
class _Zip:
    file: zipfile.ZipFile

    def add(self, name: str, source: Path) -> None:
        # Images are compressed already.
        info = zipfile.ZipInfo.from_file(source, name, strict_timestamps=False)
        with open_to_read(source) as file, self.file.open(info, "w", force_zip64=True) as copy:
            shutil.copyfileobj(file, copy)

    def write(self, name: str, data: bytes) -> None:
        self.file.writestr(name, data, zipfile.ZIP_DEFLATED)


def main(options: Namespace) -> int:
    """Copy the newest picture of each call, with an index; return 0, or 4 if some are missing."""
    with viewed(options.out) as view:
        return _export(view, options)


def _export(view: ViewedFolder, options: Namespace) -> int:
    rows = [*_wanted(view.out, only_picked=options.picked)]
    if not rows:
        what = "picked pictures" if options.picked else "pictures"
        raise ConfigError(f"{view.shown}: has no {what} to export")
    copied: list[dict[str, Any]] = []
    missing: list[str] = []
    with storage_errors(f"{options.to}: can't be written"), _target(options.to) as target:
        for row in rows:
            image = row["images"][0]
            name = split_path(image["path"])[1].removeprefix(f"{IMAGES}/")
            try:
                with view.image(image["path"]) as file:
                    target.add(name, file)
            except FileNotFoundError:
                missing.append(image["path"])
            else:
                copied.append(_index_line(row, name))
        target.write(INDEX, _table(copied))
    found = {"to": str(options.to), "pictures": len(copied), "missing_images": missing}
    print_result(found, _lines(found), as_json=options.json)
    return ExitCode.INCOMPLETE if missing else ExitCode.DONE


def _wanted(out: Path, *, only_picked: bool) -> Iterator[dict[str, Any]]:
    with storage_errors(f"{out}: can't be read"):
        marks = Marks(out)
        for place, is_newest, row in placed_marked_rows(out):
            is_wanted = not only_picked or marks.of_row(place, row).choice == "pick"
            if is_newest and row["images"] and is_wanted:
                yield row


@contextmanager
def _target(to: Path) -> Iterator[Target]:
    """Yield an empty folder, or a ZIP file that gets its name when it is complete."""
    if to.suffix.lower() == ".zip":
        if to.exists():
            raise ConfigError(f"--to: {to}: exists; name a new file")
        with new_file(to, durable=False) as file, zipfile.ZipFile(file, "w") as archive:
            yield _Zip(archive)
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"--to: {to}: exists and is not empty; name a new folder or a .zip file")
    to.mkdir(parents=True, exist_ok=True)
    yield _Folder(to)


def _index_line(row: dict[str, Any], name: str) -> dict[str, Any]:
    image = row["images"][0]
    values = (
        row | {"file": name} | {each: image.get(each) for each in ("width", "height", "sha256")}
    )
    line = {each: values.get(each) for each in _FIELDS}
    metadata = row.get("metadata")
    if isinstance(metadata, dict):
        line |= {f"metadata.{name}": _cell(value) for name, value in metadata.items()}
    return line


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def _table(lines: list[dict[str, Any]]) -> bytes:
    """Return the lines as CSV with a column for each name, in UTF-8 with a BOM, for Excel."""
    columns = dict.fromkeys(name for line in lines for name in line)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode("utf-8-sig", "replace")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['to']}: {count(found['pictures'], 'picture')} and {INDEX}"
    for path in found["missing_images"]:
        yield f"  missing: {path}"
