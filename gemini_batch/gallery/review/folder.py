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
from gemini_batch.gallery.thumbnails import FOLDER, ThumbnailsOnDemand
from gemini_batch.gallery.writer import sizes_of, write_page
from gemini_batch.output.files import append_line, open_regular, write_atomically
from gemini_batch.output.holders import running
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.output.paths import DRAFTS, FOLLOWUPS, IMAGES, RESULTS, SUPERSEDED
from gemini_batch.output.rows import place_of, rows_of
from gemini_batch.output.runs import read_summary
from gemini_batch.output.shards import Part, parts, split_path
from gemini_batch.output.tree import Tree
from gemini_batch.records import Status, ids

MAX_CHANGES = 200
"""Rows of one answer: more come with the next one."""
MAX_NOTE_CHARS = 8_000
_SHOWN = tuple(f"{name}/" for name in (IMAGES, DRAFTS, SUPERSEDED, FOLLOWUPS, FOLDER))


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
    _cursors: dict[int, dict[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the marks, unless they are given."""
        self.out = self.out.resolve()
        self._marks = self.marks or Marks(self.out)
        self._thumbnails = ThumbnailsOnDemand(self.out)

    def page(self) -> bytes:
        """Return the page with all calls until now."""
        page = BytesIO()
        review = {"after": self._cursor(_sizes(self.out))}
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
        """Return the calls whose rows came after `after`, and the run in progress.

        `after` of the result is where to continue; None if the files of rows are others by now.
        """
        sizes = _sizes(self.out)
        starts = self._cursors.get(after) or ({0: after} if sizes.keys() <= {0} else None)
        if starts is None or any(sizes.get(part, 0) < start for part, start in starts.items()):
            return {"after": None, "calls": [], "run": None}
        folders = Folders(self.out, manifest_folder(self.out, read_summary(self.out)))
        show = partial(entry, folders=folders, thumbnails=self._thumbnails)
        calls: list[dict[str, Any]] = []
        ends = {part: starts.get(part, 0) for part in sizes}
        for part in parts(self.out):
            if ends.get(part.number, 0) == sizes.get(part.number, 0):
                continue
            for place, row in rows_of(part, ends[part.number]):
                ends[part.number] = place
                if len(calls) == MAX_CHANGES:
                    break
                if row["status"] not in (Status.LATE, Status.PRUNED):  # none of them is the newest
                    calls.append(show(row | {"place": place_of(part.number, place)}))
                    self._note(row)
            else:
                ends[part.number] = _end_bytes(part, ends[part.number], sizes[part.number])
        return {"after": self._cursor(ends), "calls": calls, "run": self._run()}

    def _cursor(self, ends: dict[int, int]) -> int:
        """Return a number for what was read of each file; with one file, its end in bytes.

        Files only grow, so that their sum stands for one state.
        """
        total = sum(ends.values())
        self._cursors[total] = ends
        return total

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
        is_shown = split_path(path)[1].startswith(_SHOWN)
        if not is_shown or "\0" in path or ".." in path.split("/"):
            raise FileNotFoundError(path)
        folder, _, name = path.rpartition("/")
        if folder == FOLDER:
            self._thumbnails.make(name)
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

    def _run(self) -> dict[str, Any] | None:
        with suppress(OSError):
            if (process := running(self.out)) is not None:
                summary = read_summary(self.out)
                numbers = {
                    name: value if isinstance(value := summary.get(name), int) else None
                    for name in ("left", "calls")
                }
                started_at = summary.get("started_at")
                started = started_at if isinstance(started_at, str) else None
                return {"process": process, "started_at": started, **numbers}
        return None


def _sizes(out: Path) -> dict[int, int]:
    """Return the size of each file of rows, by the number of its part."""
    found: dict[int, int] = {}
    for part in parts(out):
        with suppress(FileNotFoundError):
            found[part.number] = (part.path / RESULTS).stat().st_size
    return found


def _end_bytes(part: Part, after: int, size_bytes: int) -> int:
    """Return the end of the last whole row: a longer file may end with a torn one."""
    with (part.path / RESULTS).open("rb") as file:
        file.seek(after)
        return after + file.read(size_bytes - after).rfind(b"\n") + 1
