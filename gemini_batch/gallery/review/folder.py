"""The output folder as the review reads and marks it; nothing outside it can be reached."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from gemini_batch.gallery.entries import Folders, entry, manifest_folder
from gemini_batch.gallery.thumbnails import FOLDER, Thumbnails
from gemini_batch.gallery.writer import sizes_of, write_page
from gemini_batch.output.files import append_line, open_regular, write_atomically
from gemini_batch.output.lock import holder
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.output.paths import DRAFTS, FOLLOWUPS, IMAGES, RESULTS, SUPERSEDED
from gemini_batch.output.rows import placed_rows
from gemini_batch.output.runs import read_summary
from gemini_batch.output.tree import Tree
from gemini_batch.records import Status, ids

MAX_CHANGES = 200
"""Rows of one answer: more come with the next one."""
MAX_NOTE_CHARS = 8_000
_SHOWN = tuple(f"{name}/" for name in (IMAGES, DRAFTS, SUPERSEDED, FOLDER))


class UnknownPictureError(Exception):
    """The folder has no such picture now."""


@dataclass(eq=False)
class ReviewedFolder:
    """One output folder. All methods block, and are for one thread at a time.

    They raise OSError if the disk refuses, and StorageError if rows are damaged.
    """

    out: Path
    marks: Marks | None = None
    _pictures: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the marks, unless they are given."""
        self.out = self.out.resolve()
        self._marks = self.marks or Marks(self.out)
        self._thumbnails = Thumbnails(self.out)

    def page(self) -> bytes:
        """Return the page with all calls until now."""
        page = BytesIO()
        end_bytes = (self.out / RESULTS).stat().st_size
        review = {"after": end_bytes}
        write_page(
            self.out,
            page,
            sizes_of(self.out),
            self._thumbnails,
            max_embedded=0,
            review=review,
            observe_row=self._note,
        )
        return page.getvalue()

    def changes(self, after: int) -> dict[str, Any]:
        """Return the calls whose rows begin at the byte `after` or later, and the run in progress.

        `after` of the result is where to continue; None if the file of rows is another one by now.
        """
        size_bytes = (self.out / RESULTS).stat().st_size
        if not 0 <= after <= size_bytes:
            return {"after": None, "calls": [], "run": None}
        folders = Folders(self.out, manifest_folder(self.out, read_summary(self.out)))
        show = partial(entry, folders=folders, thumbnails=self._thumbnails)
        calls: list[dict[str, Any]] = []
        end_bytes = after
        for place, row in placed_rows(self.out, after):
            end_bytes = place
            if len(calls) == MAX_CHANGES:
                break
            if row["status"] not in (Status.LATE, Status.PRUNED):  # none of them is the newest
                calls.append(show(row | {"place": place}))
                self._note(row)
        else:
            end_bytes = self._end_bytes(after, size_bytes)
        return {"after": end_bytes, "calls": calls, "run": self._run()}

    def mark(self, mark: Mark) -> None:
        """Set a mark, durably.

        Raises:
            UnknownPictureError: The folder has no such picture.
        """
        if (mark.id, mark.sha256) not in self._pictures:
            raise UnknownPictureError
        self._marks.set(mark)

    def follow_up(self, call_id: str, sha256: str, note: str) -> str:
        """Add a job that edits a picture as the note says; return the manifest's path.

        Raises:
            UnknownPictureError: The folder has no such picture.
            StorageError: A symbolic link is in the place of a folder.
        """
        path = self._pictures.get((call_id, sha256))
        if path is None:
            raise UnknownPictureError
        data = self.read(path)
        if hashlib.sha256(data).hexdigest() != sha256:  # the call was made again meanwhile
            raise UnknownPictureError
        name = f"{sha256}{PurePosixPath(path).suffix}"
        tree = Tree(self.out)
        try:
            folder = tree.open(FOLLOWUPS, make=True)
            try:
                write_atomically(Path(name), data, durable=True, dir_fd=folder)
            finally:
                os.close(folder)
        finally:
            tree.close()
        manifest = self.out / f"{FOLLOWUPS}.jsonl"
        number = manifest.read_bytes().count(b"\n") + 1 if manifest.exists() else 1
        job: dict[str, Any] = {"id": f"{call_id}-edit-{number}"}
        if len(job["id"].encode()) > ids.MAX_ID_BYTES:
            job = {}  # then it is derived from the line
        job |= {"prompt": note, "images": [f"{FOLLOWUPS}/{name}"]}
        job["metadata"] = {"follows": call_id, "sha256": sha256}
        root = os.open(self.out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            append_line(root, manifest.name, orjson.dumps(job))
        finally:
            os.close(root)
        return str(manifest)

    def read(self, path: str) -> bytes:
        """Return an image or a thumbnail; no symbolic link is followed.

        Raises:
            OSError: There is none.
        """
        if not path.startswith(_SHOWN) or "\0" in path:
            raise FileNotFoundError(path)
        folder, _, name = path.rpartition("/")
        tree = Tree(self.out)
        try:
            parent = tree.open(folder)
            try:
                descriptor = open_regular(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=parent)
            finally:
                os.close(parent)
        finally:
            tree.close()
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def _note(self, row: dict[str, Any]) -> None:
        for image in row["images"]:
            self._pictures[row["id"], image["sha256"]] = image["path"]

    def _end_bytes(self, after: int, size_bytes: int) -> int:
        """Return the end of the last whole row: a longer file may end with a torn one."""
        with (self.out / RESULTS).open("rb") as file:
            file.seek(after)
            return after + file.read(size_bytes - after).rfind(b"\n") + 1

    def _run(self) -> dict[str, Any] | None:
        with suppress(OSError):
            if (process := holder(self.out)) is not None:
                summary = read_summary(self.out)
                numbers = {
                    name: value if isinstance(value := summary.get(name), int) else None
                    for name in ("left", "calls")
                }
                started_at = summary.get("started_at")
                started = started_at if isinstance(started_at, str) else None
                return {"process": process, "started_at": started, **numbers}
        return None
