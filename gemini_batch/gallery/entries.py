"""A row as the gallery shows it: shortened texts, checked numbers, and links to images only.

A row is untrusted, and may be out of date: the user or a model chose most of its texts. So each
file is checked again, and linked only if it is an existing image in an allowed place. A field of an
unexpected type is left out.
"""

import os
import re
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from gemini_batch.gallery.thumbnails import Thumbnails
from gemini_batch.inputs.lookup import spellings
from gemini_batch.output.paths import IMAGES, SUPERSEDED
from gemini_batch.output.runs import manifest_path
from gemini_batch.output.shards import split_path
from gemini_batch.records import exact_json, media_types
from gemini_batch.records.references import referred

# Characters of one text; results.jsonl has all of it.
MAX_CHARS = 4_000
# Files of one kind that a row may show; a request has at most 14 inputs.
MAX_FILES = 32
# Numbers that are tried for a superseded picture: it may have been superseded more often.
_TRIED = range(2, 10)

_EXTENSIONS = frozenset({*media_types.EXTENSIONS.values(), ".jpeg", media_types.UNKNOWN_EXTENSION})
_is_uri = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:").match


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders that contain the files of rows, absolute and without symbolic links.

    Attributes:
        out: The output folder.
        manifest: The folder of the manifest; None if unknown, so that no input is linked.
    """

    out: Path
    manifest: Path | None


def entry(row: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return a row as the page shows it; make missing thumbnails.

    Raises:
        StorageError: A thumbnail cannot be written.
    """
    reason, message = _why(row)
    usage = row.get("usage")
    tokens = usage if isinstance(usage, dict) else {}
    batch = row.get("batch")
    texts = (
        *("id", "prompt", "text", "model", "model_version", "response_id", "service_tier"),
        *("route", "finished_at"),
    )
    numbers = ("line", "place", "cost_usd", "attempts", "latency_s")
    counted = ("prompt", "candidates", "thoughts", "total")
    return {
        **{name: _text(row.get(name)) for name in texts},
        **{name: _number(row.get(name)) for name in numbers},
        "status": row["status"],
        "batch": _text(batch.get("name")) if isinstance(batch, dict) else None,
        "is_smaller": row.get("is_smaller") is True,
        "reason": reason,
        "message": message,
        "images": [_output(file, folders, thumbnails) for file in _files(row, "images")],
        "drafts": [_output(file, folders, thumbnails) for file in _files(row, "drafts")],
        "earlier": [_earlier(file, folders, thumbnails) for file in _files(row, "earlier")],
        "inputs": [_input(file, folders, thumbnails) for file in _files(row, "inputs")],
        "tokens": {name: _number(tokens.get(f"{name}_tokens")) for name in counted},
        "metadata": _pretty(row.get("metadata")),
    }


def manifest_folder(out: Path, summary: dict[str, Any]) -> Path | None:
    """Return the folder of the last run's manifest; None if it is not found."""
    try:
        path = manifest_path(out, summary)
        return path.parent.resolve() if path is not None and path.is_file() else None
    except OSError:
        return None


def number_of_files(row: dict[str, Any]) -> int:
    """Return the number of pictures of a row, inputs and drafts included."""
    return sum(len(_files(row, name)) for name in ("images", "drafts", "inputs"))


def _files(row: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = row.get(name)
    if not isinstance(found, list):
        return []
    files = (file for file in found[:MAX_FILES] if isinstance(file, dict))
    return [file for file in files if isinstance(file.get("path"), str)]


def _output(file: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    numbers = {name: _number(file.get(name)) for name in ("width", "height", "size_bytes")}
    known = {"sha256": _text(file.get("sha256")), **numbers}
    return _shown(_inside(file["path"], folders.out), file, folders, thumbnails) | known


def _earlier(file: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return a picture of the call that is superseded: the file there with its name and size."""
    prefix, in_part = split_path(file["path"])
    name = Path(in_part.removeprefix(f"{IMAGES}/"))
    moved = folders.out / prefix / SUPERSEDED / name
    paths = [moved, *(moved.with_name(f"{moved.stem}.{number}{moved.suffix}") for number in _TRIED)]
    if prefix:  # the newer picture may be another worker's
        paths.append(folders.out / file["path"])
    for path in paths:
        found = _inside(str(path.relative_to(folders.out)), folders.out)
        if found is not None and found.stat().st_size == file.get("size_bytes"):
            return _output(file | {"path": str(path.relative_to(folders.out))}, folders, thumbnails)
    return {"path": _text(file["path"]), "is_missing": True}


def _input(file: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    if (call_id := referred(file["path"])) is not None:
        return _shown(_picture_of(call_id, folders.out), file, folders, thumbnails)
    if _is_uri(file["path"]):
        return {"path": _text(file["path"]), "is_remote": True}
    return _shown(_input_file(file["path"], folders.manifest), file, folders, thumbnails)


def _picture_of(call_id: str, out: Path) -> Path | None:
    """Return the newest picture of a call; None without any."""
    names = (f"{IMAGES}/{call_id}{extension}" for extension in media_types.EXTENSIONS.values())
    return next(filter(None, (_inside(name, out) for name in names)), None)


def _shown(
    path: Path | None, file: dict[str, Any], folders: Folders, thumbnails: Thumbnails
) -> dict[str, Any]:
    shown = {"path": _text(file["path"])}
    if path is None:
        return shown | {"is_missing": True}
    thumbnail = thumbnails.of(path, file.get("sha256"))
    # A relative link from the page, without characters that end a path.
    href = quote(os.fsencode(os.path.relpath(path, folders.out)))
    return shown | {"href": href, "thumbnail": thumbnail.key, "is_changed": thumbnail.is_changed}


def _inside(path: str, out: Path) -> Path | None:
    """Return an image in the output folder; None if it is missing, no image, or outside."""
    given = Path(path)
    is_outside = "\0" in path or given.is_absolute() or ".." in given.parts
    if is_outside or given.suffix.lower() not in _EXTENSIONS:
        return None
    try:
        found = (out / given).resolve()
        return out / given if found.is_relative_to(out) and found.is_file() else None
    except (OSError, RuntimeError):  # a loop of symbolic links is a RuntimeError before Python 3.13
        return None


def _input_file(path: str, base: Path | None) -> Path | None:
    """Return an input anywhere on this machine; None unless it starts like an image."""
    if base is None:
        return None
    files = (Path(os.path.normpath(base / each)) for each in spellings(path))
    try:
        if (file := next(filter(Path.is_file, files), None)) is None:
            return None
        with file.open("rb") as source:
            return file if media_types.sniff(source.read(media_types.HEAD_BYTES)) else None
    except OSError:
        return None


def _why(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the server's reason for a missing picture, and its message."""
    error = row.get("error")
    if isinstance(error, dict):
        http_status = _number(error.get("http_status"))
        names = [None if http_status is None else f"{http_status:g}", _text(error.get("status"))]
        return " ".join(name for name in names if name) or None, _text(error.get("message"))
    if row["status"] == "succeeded":
        return None, _text(row.get("finish_message"))
    reason = _text(row.get("block_reason")) or _text(row.get("finish_reason"))
    return reason, _text(row.get("finish_message"))


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    if len(value) <= MAX_CHARS:
        return value
    return f"{value[:MAX_CHARS]} … (truncated; the full text is in results.jsonl)"


def _number(value: Any) -> float | int | None:
    return value if type(value) in (int, float) and isfinite(value) else None


def _pretty(value: Any) -> str | None:
    if not value:
        return None
    try:
        return _text(orjson.dumps(value, exact_json.written, orjson.OPT_INDENT_2).decode())
    except TypeError:  # more levels than orjson writes; no run writes such a row
        return None
