"""Images in a bucket: written once each, with the row of their call in the notes of the object."""

import base64
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

import orjson

from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.paths import DRAFTS, IMAGES, SUPERSEDED
from gemini_batch.output.row_lines import parse_row
from gemini_batch.store.base import ConflictError, Content, ImageStore, NoObjectError

# S3 takes 2 KB of names and values (https://docs.aws.amazon.com/AmazonS3/latest/userguide/
# UsingMetadata.html, 2026-11-30); Azure 8 KB.
_MAX_NOTE_CHARS = 1_800
_ROW, _SHA256 = "row", "sha256"
# What the manifest has as well, and what is for people only.
_TRIMMED: dict[str, Any] = {
    "prompt": None,
    "text": None,
    "metadata": None,
    "safety_ratings": [],
    "inputs": [],
}


def notes_of(row: Mapping[str, Any], line: bytes, sha256: str) -> dict[str, str]:
    """Return the notes of the last image of a row, which commit it.

    A row that is too long even without its texts is committed by its segment alone.
    """
    for each in (line, orjson.dumps(dict(row) | _TRIMMED)):
        packed = base64.b64encode(zlib.compress(each.strip())).decode()
        if len(packed) <= _MAX_NOTE_CHARS:
            return {_ROW: packed, _SHA256: sha256}
    return {_SHA256: sha256}


def row_of_notes(notes: Mapping[str, str]) -> tuple[dict[str, Any], bytes] | None:
    """Return the row in the notes of an image, and its line; None without one."""
    try:
        line = zlib.decompress(base64.b64decode(notes[_ROW]))
    except (KeyError, ValueError, zlib.error):
        return None
    row = parse_row(line)
    return None if row is None else (row, line + b"\n")


def upload(store: ImageStore, path: str, data: Content, notes: Mapping[str, str]) -> None:
    """Write an image; another one of its name moves to `superseded/` first.

    It is safe to do this again.
    """
    while True:
        try:
            store.create(path, data, notes)
        except ConflictError:
            pass
        else:
            return
        try:
            earlier = store.head(path)
        except NoObjectError:
            continue
        if earlier.notes.get(_SHA256) == notes[_SHA256]:
            return
        store.copy(path, _superseded(path, earlier.notes.get(_SHA256) or earlier.version))
        try:
            store.replace(path, data, earlier.version, notes)
        except ConflictError:
            continue
        return


def has(store: ImageStore, path: str, sha256: str) -> bool:
    """Return whether an image is in the bucket."""
    try:
        return store.head(path).notes.get(_SHA256) == sha256
    except NoObjectError:
        return False


def _superseded(path: str, content: str) -> str:
    name = PurePosixPath(SUPERSEDED, path.removeprefix(f"{IMAGES}/"))
    letters = "".join(filter(str.isalnum, content))[:12]
    return str(name.with_name(f"{name.stem}.{letters}{name.suffix}"))


def rows_without_segment(
    store: ImageStore, known: "KnownRows", since: datetime | None
) -> Iterator[bytes]:
    """Yield the rows in notes of images that no segment has, in the order of finishing.

    Only images that no row names, and those written after `since`, are looked at.
    """
    found: dict[int, tuple[str, bytes]] = {}
    for folder in (IMAGES, DRAFTS, SUPERSEDED):
        for entry in store.list(folder):
            if known.has_image(entry.name) and (since is None or entry.modified_at < since):
                continue
            try:
                noted = row_of_notes(store.head(entry.name).notes)
            except NoObjectError:
                continue
            if noted is not None and not known.has(noted[0]):
                found[key_of(noted[0])] = (noted[0]["finished_at"], noted[1])
    for _, line in sorted(found.values()):
        yield line


class KnownRows:
    """Rows, and the images that they name, in 48 to 64 bytes a row."""

    def __init__(self) -> None:
        self._rows = HashMap64()
        self._images = HashMap64()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.put(key_of(row), 1)
        for image in (*row["images"], *row["drafts"]):
            self._images.put(fingerprint(image["path"]), 1)

    def has(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is among them."""
        return self._rows.get(key_of(row)) is not None

    def has_image(self, path: str) -> bool:
        """Return whether one of them names an image."""
        return self._images.get(fingerprint(path)) is not None


def key_of(row: Mapping[str, Any]) -> int:
    """Return a hash of what makes a row that row."""
    return fingerprint((row["id"], row["request_sha256"], row["finished_at"], row["status"]))
