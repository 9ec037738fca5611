"""`gallery.html`: all calls of an output folder on one page.

Rows are streamed, so that memory holds only the calls whose thumbnails are being made. The page is
written under another name and then renamed: a reader never sees half of it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.gallery.embedding import embed, write_data_uris
from gemini_batch.gallery.entries import Folders, entry, manifest_folder, number_of_files
from gemini_batch.gallery.page import frame, safe_json
from gemini_batch.gallery.threads import in_order
from gemini_batch.gallery.thumbnails import FOLDER, SUFFIX, Thumbnails
from gemini_batch.output.files import new_file
from gemini_batch.output.history import Cost
from gemini_batch.output.marks import Marks
from gemini_batch.output.paths import GALLERY, PRIVATE
from gemini_batch.output.rows import newest_rows, placed_marked_rows
from gemini_batch.output.runs import read_summary
from gemini_batch.records import Status

# Calls on the page, the newest ones. Measured: 20,000 take 15 MB, opened by Chromium in 0.6 s.
MAX_SHOWN = 20_000
# Pictures up to which the thumbnails are embedded, so that the page can be mailed: 3 MB at 7 kB for
# a flat picture. With more they are linked: 2,000 would take 20 MB before the first is shown.
MAX_EMBEDDED = 300
MAX_EARLIER = 4
"""Superseded pictures of a call that its newest one can be compared with."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """A gallery that was written.

    Attributes:
        calls: Newest rows in the folder.
        shown: How many of them are on the page.
        pictures: Results on the page, without drafts and inputs.
        missing: Those of them whose file no longer exists.
    """

    path: Path
    calls: int
    shown: int
    pictures: int
    missing: int
    size_bytes: int


@dataclass(slots=True)
class _Totals:
    """The totals of all calls, and the number of those on the page, as the page gets them."""

    calls: int = 0
    shown: int = 0
    pictures: int = 0
    missing: int = 0
    tokens: int = 0
    simulated: int = 0
    first_at: str | None = None
    last_at: str | None = None
    cost: Cost = field(default_factory=Cost)
    all_rows: Cost = field(default_factory=Cost)  # superseded rows were paid for too

    def add(self, row: dict[str, Any]) -> None:
        self.calls += 1
        self.pictures += len(row["images"])
        usage, finished_at = row.get("usage"), row.get("finished_at")
        tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
        self.tokens += tokens if isinstance(tokens, int) else 0
        self.simulated += row["endpoint"] == "simulator"
        self.cost.add(row)
        # ISO 8601 in UTC sorts as text.
        if isinstance(finished_at, str) and len(finished_at) <= 40:
            self.first_at = min(self.first_at or finished_at, finished_at)
            self.last_at = max(self.last_at or finished_at, finished_at)


def write_gallery(
    out: Path,
    *,
    max_shown: int = MAX_SHOWN,
    max_embedded: int = MAX_EMBEDDED,
    max_mailed_bytes: int | None = None,
    observe: Callable[[int, int], None] | None = None,
) -> Gallery:
    """Write `gallery.html` into an output folder, also during a run.

    Args:
        out: The output folder.
        max_shown: Calls on the page; of more, those that finished last, which the page states.
        max_embedded: Pictures up to which the thumbnails are embedded.
        max_mailed_bytes: Size of a page that has all pictures in it, as large as it allows; None
            for a page that links them.
        observe: Called after each call with the numbers of finished calls and of all.

    Raises:
        StorageError: The folder can't be written, or its `results.jsonl` is damaged.
        ConfigError: The page would be larger than `max_mailed_bytes`; the earlier one stays.
    """
    sizes, thumbnails = sizes_of(out), Thumbnails(out.resolve())
    via = out.resolve() / f"{PRIVATE}/{GALLERY}.{os.getpid()}.part"
    try:
        with new_file(out.resolve() / GALLERY, durable=False, via=via) as page:
            return write_page(
                out,
                page,
                sizes,
                thumbnails,
                max_shown=max_shown,
                max_embedded=max_embedded,
                max_mailed_bytes=max_mailed_bytes,
                observe=observe,
            )
    except OSError as error:
        raise StorageError(f"{out / GALLERY}: can't be written: {error.strerror}") from error


def write_page(
    out: Path,
    page: BinaryIO,
    sizes: tuple[int, int],
    thumbnails: Thumbnails,
    *,
    max_shown: int = MAX_SHOWN,
    max_embedded: int = MAX_EMBEDDED,
    max_mailed_bytes: int | None = None,
    observe: Callable[[int, int], None] | None = None,
    observe_row: Callable[[dict[str, Any]], None] | None = None,
    review: Mapping[str, Any] | None = None,
) -> Gallery:
    """Write the page to a file, as `write_gallery` does.

    Args:
        out: The output folder.
        page: The open file.
        sizes: Those of `sizes_of`.
        thumbnails: Of the folder.
        max_shown: As of `write_gallery`.
        max_embedded: As of `write_gallery`.
        max_mailed_bytes: As of `write_gallery`.
        observe: As of `write_gallery`.
        observe_row: Called with each row on the page.
        review: Facts about its server for the page of a review.

    Raises:
        OSError: The file can't be written, or marks can't be read.
        StorageError: Rows are damaged.
        ConfigError: As of `write_gallery`.
    """
    folders = Folders(out.resolve(), manifest_folder(out.resolve(), read_summary(out)))
    calls, files = sizes
    is_mailed = max_mailed_bytes is not None
    writer = _Writer(folders, thumbnails, max(0, calls - max_shown), observe_row, is_mailed)
    before, after = frame(folders.out.name, connects=review is not None)
    page.write(before + b'<script type="application/json" id="calls">[')
    for done, line in enumerate(writer.lines(placed_marked_rows(out)), start=1):
        page.write(b",\n" if done > 1 else b"\n")
        page.write(line)
        if observe is not None:
            observe(done, min(calls, max_shown))
    page.write(b']</script>\n<script type="application/json" id="thumbnails">{')
    if max_mailed_bytes is not None:
        embed(page, writer.keys, thumbnails, max_mailed_bytes)
    elif files <= max_embedded:
        write_data_uris(page, ((key, thumbnails.data(key)) for key in writer.keys))
    page.write(b'}</script>\n<script type="application/json" id="about">')
    about = writer.about(read_summary(out).get("manifest"))
    marks = [asdict(mark) for mark in Marks(out).all()]
    page.write(safe_json(about | {"marks": marks, "review": review, "is_mailed": is_mailed}))
    page.write(b"</script>" + after)
    sums = writer.totals
    return Gallery(
        out / GALLERY, sums.calls, sums.shown, writer.pictures, sums.missing, page.tell()
    )


def sizes_of(out: Path) -> tuple[int, int]:
    """Return the number of calls, and of the pictures that they name.

    Raises:
        StorageError: The rows can't be read, or are damaged.
    """
    calls, files = 0, 0
    try:
        for row in newest_rows(out, brief=True):
            calls += 1
            files += number_of_files(row)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {describe_os_error(error)}") from error
    return calls, files


@dataclass(slots=True, eq=False)
class _Writer:
    """Makes the lines of the page from rows, and counts; the first `hidden` calls have no line.

    Attributes:
        keys: The thumbnails of the page, with the file of each result.
    """

    folders: Folders
    thumbnails: Thumbnails
    hidden: int
    observe_row: Callable[[dict[str, Any]], None] | None = None
    is_mailed: bool = False
    totals: _Totals = field(default_factory=_Totals)
    pictures: int = 0  # on the page
    keys: dict[str, Path | None] = field(default_factory=dict)

    def lines(self, rows: Iterable[tuple[int, bool, dict[str, Any]]]) -> Iterator[bytes]:
        show = partial(entry, folders=self.folders, thumbnails=self.thumbnails)
        for shown in in_order(show, self._counted(rows)):
            self.totals.shown += 1
            self.totals.missing += sum("is_missing" in image for image in shown["images"])
            self.pictures += len(shown["images"])
            self._note(shown)
            yield safe_json(shown)

    def _note(self, shown: dict[str, Any]) -> None:
        small = [*shown["drafts"], *shown["inputs"]] + shown["earlier"] * self.is_mailed
        for file in small:
            if key := file.get("thumbnail"):
                self.keys.setdefault(key, None)
        for file in shown["images"]:
            if key := file.get("thumbnail"):
                self.keys[key] = self.folders.out / file["path"]

    def about(self, manifest: object) -> dict[str, Any]:
        totals = asdict(self.totals)
        return {
            "out": os.fsencode(self.folders.out.name).decode(errors="replace"),
            "manifest": manifest if isinstance(manifest, str) else None,
            "thumbnails": {"folder": f"{FOLDER}/", "suffix": SUFFIX},
            "totals": totals | totals.pop("cost"),
        }

    def _counted(
        self, rows: Iterable[tuple[int, bool, dict[str, Any]]]
    ) -> Iterator[dict[str, Any]]:
        earlier: dict[str, list[dict[str, Any]]] = {}
        for place, is_newest, row in rows:
            self.totals.all_rows.add(row)
            if row["status"] == Status.PRUNED:
                earlier.pop(row["id"], None)
            elif not is_newest:
                found = [*earlier.get(row["id"], ()), *row["images"]]
                earlier[row["id"]] = found[-MAX_EARLIER:]
            else:
                row["place"] = place
                row["earlier"] = earlier.pop(row["id"], [])
                self.totals.add(row)
                if self.totals.calls > self.hidden:
                    if self.observe_row is not None:
                        self.observe_row(row)
                    yield row
