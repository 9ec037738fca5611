"""A row as the gallery shows it: texts cut to a length, numbers that are numbers, and links that lead to pictures only.

A row says what was true when it was written, and a person or a model chose most of its words. So each file is looked up again: it
is linked when it is there, an image, and where it may be; and a field of a kind that was not expected is left out.
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
from gemini_batch.records import media_types

# Characters of one text; the whole is in results.jsonl.
MOST_CHARS = 4_000
# Files of one kind that a row may show; a request takes 14 inputs.
MOST_FILES = 32

_EXTENSIONS = frozenset({*media_types.EXTENSIONS.values(), ".jpeg", media_types.UNKNOWN_EXTENSION})
_is_uri = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:").match


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the files of rows are.

    Attributes:
        out: The output folder, absolute and without symbolic links.
        manifest: The manifest's folder likewise; None when it is not known, and then no input is linked.
    """

    out: Path
    manifest: Path | None


def entry(row: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    """Return what the page shows of a row; thumbnails that are not there yet are made.

    Raises:
        StorageError: A thumbnail can't be written.
    """
    reason, message = _why(row)
    usage = row.get("usage")
    tokens = usage if isinstance(usage, dict) else {}
    return {
        "id": _text(row["id"]),
        "line": _number(row.get("line")),
        "status": row["status"],
        "reason": reason,
        "message": message,
        "prompt": _text(row.get("prompt")),
        "text": _text(row.get("text")),
        "images": [_output(file, folders, thumbnails) for file in _files(row, "images")],
        "drafts": [_output(file, folders, thumbnails) for file in _files(row, "drafts")],
        "inputs": [_input(file, folders, thumbnails) for file in _files(row, "inputs")],
        "tokens": {
            "prompt": _number(tokens.get("prompt_tokens")),
            "candidates": _number(tokens.get("candidates_tokens")),
            "thoughts": _number(tokens.get("thoughts_tokens")),
            "total": _number(tokens.get("total_tokens")),
        },
        "cost_usd": _number(row.get("cost_usd")),
        "model": _text(row.get("model")),
        "model_version": _text(row.get("model_version")),
        "response_id": _text(row.get("response_id")),
        "attempts": _number(row.get("attempts")),
        "latency_s": _number(row.get("latency_s")),
        "finished_at": _text(row.get("finished_at")),
        "metadata": _pretty(row.get("metadata")),
    }


def manifest_folder(out: Path, summary: dict[str, Any]) -> Path | None:
    """Return the folder of the manifest that the last run named; None when it is not found.

    The summary has the manifest and the output folder as they were given, relative to a working folder that is not known any
    more: the way from one to the other is what counts. That also finds it when both were moved together.
    """
    manifest, given_out = (summary.get(name) for name in ("manifest", "out"))
    if not (manifest and isinstance(manifest, str) and isinstance(given_out, str)):
        return None
    try:
        candidates = [
            Path(os.path.normpath(out / os.path.relpath(manifest, given_out or os.curdir)))
        ]
        if Path(manifest).is_absolute():
            candidates.append(Path(manifest))
        return next((path.parent.resolve() for path in candidates if path.is_file()), None)
    except OSError:
        return None


def number_of_files(row: dict[str, Any]) -> int:
    """Return how many pictures a row names, inputs and drafts included."""
    return sum(len(_files(row, name)) for name in ("images", "drafts", "inputs"))


def _files(row: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = row.get(name)
    if not isinstance(found, list):
        return []
    return [
        file
        for file in found[:MOST_FILES]
        if isinstance(file, dict) and isinstance(file.get("path"), str)
    ]


def _output(file: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        **_shown(_inside(file["path"], folders.out), file, folders, thumbnails),
        "width": _number(file.get("width")),
        "height": _number(file.get("height")),
        "size_bytes": _number(file.get("size_bytes")),
    }


def _input(file: dict[str, Any], folders: Folders, thumbnails: Thumbnails) -> dict[str, Any]:
    path: str = file["path"]
    if _is_uri(path):
        return {"path": _text(path), "is_remote": True}
    return _shown(_input_file(path, folders.manifest), file, folders, thumbnails)


def _shown(
    path: Path | None, file: dict[str, Any], folders: Folders, thumbnails: Thumbnails
) -> dict[str, Any]:
    if path is None:
        return {"path": _text(file["path"]), "is_missing": True}
    thumbnail = thumbnails.of(path, file.get("sha256"))
    return {
        "path": _text(file["path"]),
        "href": _href(path, folders.out),
        "thumbnail": thumbnail.key,
        "is_changed": thumbnail.is_changed,
    }


def _inside(path: str, out: Path) -> Path | None:
    """Return the file of a path below the output folder; None when it is not there, no image, or leads elsewhere."""
    given = Path(path)
    if (
        "\0" in path
        or given.is_absolute()
        or ".." in given.parts
        or given.suffix.lower() not in _EXTENSIONS
    ):
        return None
    try:
        found = (out / given).resolve()
        return out / given if found.is_relative_to(out) and found.is_file() else None
    except (OSError, RuntimeError):  # a loop of symbolic links is a RuntimeError before Python 3.13
        return None


def _input_file(path: str, base: Path | None) -> Path | None:
    """Return the file that a manifest names, anywhere on this machine; None unless its first bytes are an image's."""
    if base is None:
        return None
    file = Path(os.path.normpath(base / path))
    try:
        if not file.is_file():
            return None
        with file.open("rb") as source:
            return file if media_types.sniff(source.read(media_types.HEAD_BYTES)) else None
    except OSError:
        return None


def _href(file: Path, out: Path) -> str:
    """Return a link from the page to a file: relative, and of no characters that could make it anything else than a path."""
    return quote(os.fsencode(os.path.relpath(file, out)))


def _why(row: dict[str, Any]) -> tuple[str | None, str | None]:
    """Return the reason why there is no picture as the server names it, and its words."""
    error = row.get("error")
    if isinstance(error, dict):
        http_status = _number(error.get("http_status"))
        names = [None if http_status is None else f"{http_status:g}", _text(error.get("status"))]
        return " ".join(name for name in names if name) or None, _text(error.get("message"))
    if row["status"] == "succeeded":
        return None, _text(row.get("finish_message"))
    return _text(row.get("block_reason")) or _text(row.get("finish_reason")), _text(
        row.get("finish_message")
    )


def _text(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return (
        value
        if len(value) <= MOST_CHARS
        else f"{value[:MOST_CHARS]} … (cut; the whole is in results.jsonl)"
    )


def _number(value: Any) -> float | int | None:
    return value if type(value) in (int, float) and isfinite(value) else None


def _pretty(value: Any) -> str | None:
    if not value:
        return None
    return _text(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
