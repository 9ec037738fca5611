"""`gallery.html`: all calls of an output folder on one page, to look at.

Rows are streamed, so a folder of 100,000 takes the memory of those that wait for a thumbnail. The page is written beside and then
gets its name: whoever looks at the last one never sees half of the next.
"""

import base64
import os
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.gallery.entries import Folders, entry, manifest_folder, number_of_files
from gemini_batch.gallery.page import frame, safe_json
from gemini_batch.gallery.thumbnails import FOLDER, SUFFIX, Thumbnails
from gemini_batch.output.files import new_file
from gemini_batch.output.history import Cost
from gemini_batch.output.paths import GALLERY, PRIVATE, SUMMARY
from gemini_batch.output.rows import marked_rows, newest_rows
from gemini_batch.records import Status

# Calls on the page; of more, the newest. Measured: 20,000 are 15 MB, which Chromium opens in 0.6 s.
MOST_SHOWN = 20_000
# Up to so many pictures the thumbnails are in the page itself, which can then be mailed: at 7 kB for a flat picture and more for
# a photograph that is 3 MB and more. 2,000 would be 20 MB and more that a browser has to read before it shows the first: they
# are linked, and loaded as one comes to them.
MOST_EMBEDDED = 300
_MOST_THREADS = 8


@dataclass(frozen=True, slots=True)
class Gallery:
    """A gallery that was written.

    Attributes:
        path: The page.
        calls: Newest rows in the folder.
        shown: How many of them are on the page.
        pictures: Results on the page, drafts and inputs not counted.
        missing: Of these, how many are not there any more.
        size_bytes: Of the page.
    """

    path: Path
    calls: int
    shown: int
    pictures: int
    missing: int
    size_bytes: int


@dataclass(slots=True)
class _Totals:
    """What all calls came to, shown or not."""

    calls: int = 0
    pictures: int = 0
    tokens: int = 0
    cost: Cost = field(default_factory=Cost)
    simulated: int = 0
    first_at: str | None = None
    last_at: str | None = None
    by_status: Counter[str] = field(default_factory=Counter)

    def add(self, row: dict[str, Any]) -> None:
        self.calls += 1
        self.by_status[row["status"]] += 1
        self.pictures += len(row["images"])
        usage, finished_at = row.get("usage"), row.get("finished_at")
        tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
        self.tokens += tokens if isinstance(tokens, int) else 0
        self.simulated += row["endpoint"] == "simulator"
        self.cost.add(row)
        if (
            isinstance(finished_at, str) and len(finished_at) <= 40
        ):  # ISO 8601, UTC: in the order of text
            self.first_at = min(self.first_at or finished_at, finished_at)
            self.last_at = max(self.last_at or finished_at, finished_at)


def write_gallery(
    out: Path,
    *,
    most_shown: int = MOST_SHOWN,
    most_embedded: int = MOST_EMBEDDED,
    observe: Callable[[int, int], None] | None = None,
) -> Gallery:
    """Write `gallery.html` into an output folder; a run may be going on in it.

    Args:
        out: The output folder.
        most_shown: Calls on the page; of more, those that finished last are shown, and the page says so.
        most_embedded: Pictures up to which the thumbnails are in the page itself.
        observe: Called after each call with how many are ready, and of how many.

    Raises:
        StorageError: The folder can't be written, or its `results.jsonl` is damaged.
    """
    folders = Folders(out.resolve(), manifest_folder(out.resolve(), _summary(out)))
    calls, files = _number(out)
    thumbnails = Thumbnails(folders.out)
    writer = _Writer(folders, thumbnails, hidden=max(0, calls - most_shown))
    via = folders.out / f"{PRIVATE}/{GALLERY}.{os.getpid()}.part"
    try:
        with new_file(folders.out / GALLERY, durable=False, via=via) as page:
            before, after = frame(folders.out.name)
            page.write(before)
            page.write(b'<script type="application/json" id="calls">[')
            for done, line in enumerate(writer.lines(marked_rows(out)), start=1):
                page.write(b",\n" if done > 1 else b"\n")
                page.write(line)
                if observe is not None:
                    observe(done, min(calls, most_shown))
            page.write(b']</script>\n<script type="application/json" id="thumbnails">{')
            if files <= most_embedded:
                _embed(page, thumbnails, writer.keys)
            page.write(b'}</script>\n<script type="application/json" id="about">')
            page.write(safe_json(writer.about(_summary(out).get("manifest"))))
            page.write(b"</script>")
            page.write(after)
            size_bytes = page.tell()
    except OSError as error:
        raise StorageError(f"{out / GALLERY}: can't be written: {error.strerror}") from error
    return Gallery(
        out / GALLERY,
        writer.totals.calls,
        writer.shown,
        writer.pictures,
        writer.missing,
        size_bytes,
    )


def _number(out: Path) -> tuple[int, int]:
    """Return how many calls there are, and how many pictures they name."""
    calls, files = 0, 0
    try:
        for row in newest_rows(out):
            calls += 1
            files += number_of_files(row)
    except OSError as error:
        raise StorageError(f"{out}: can't be read: {error.strerror}") from error
    return calls, files


class _Writer:
    """Makes the page's lines of rows, and counts."""

    def __init__(self, folders: Folders, thumbnails: Thumbnails, *, hidden: int) -> None:
        self._folders = folders
        self._thumbnails = thumbnails
        self._hidden = hidden
        self.totals = _Totals()
        self._of_all = Cost()  # superseded rows were paid for too
        self.shown = 0
        self.pictures = 0
        self.missing = 0
        self.keys: dict[str, None] = {}

    def lines(self, rows: Iterable[tuple[bool, dict[str, Any]]]) -> Iterator[bytes]:
        for shown in _in_order(self._entry, self._counted(rows)):
            self.shown += 1
            self.pictures += len(shown["images"])
            self.missing += sum("is_missing" in image for image in shown["images"])
            for file in (*shown["images"], *shown["drafts"], *shown["inputs"]):
                if key := file.get("thumbnail"):
                    self.keys[key] = None
            yield safe_json(shown)

    def about(self, manifest: object) -> dict[str, Any]:
        totals = self.totals
        return {
            "out": os.fsencode(self._folders.out.name).decode(errors="replace"),
            "manifest": manifest if isinstance(manifest, str) else None,
            "thumbnails": {"folder": f"{FOLDER}/", "suffix": SUFFIX},
            "totals": {
                "calls": totals.calls,
                "shown": self.shown,
                "pictures": totals.pictures,
                "missing": self.missing,
                "tokens": totals.tokens,
                **asdict(totals.cost),
                "all_rows": asdict(self._of_all),
                "simulated": totals.simulated,
                "first_at": totals.first_at,
                "last_at": totals.last_at,
                "by_status": {
                    status.value: totals.by_status[status]
                    for status in Status
                    if totals.by_status[status]
                },
            },
        }

    def _counted(self, rows: Iterable[tuple[bool, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        for is_newest, row in rows:
            self._of_all.add(row)
            if not is_newest:
                continue
            self.totals.add(row)
            if self.totals.calls > self._hidden:
                yield row

    def _entry(self, row: dict[str, Any]) -> dict[str, Any]:
        return entry(row, self._folders, self._thumbnails)


def _in_order(
    function: Callable[[dict[str, Any]], dict[str, Any]], values: Iterable[dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield `function(value)` of each value, worked on by as many threads as there are cores, a bounded number ahead."""
    threads = min(_cores(), _MOST_THREADS)
    source = iter(values)
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(threads, thread_name_prefix="thumbnails") as pool,
    ):
        warnings.simplefilter(
            "ignore"
        )  # Pillow's about large images and odd metadata: both are expected
        waiting: deque[Future[dict[str, Any]]] = deque()
        try:
            waiting.extend(pool.submit(function, value) for value in islice(source, 4 * threads))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(function, value) for value in islice(source, 1))
        finally:
            for future in waiting:
                future.cancel()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _embed(page: BinaryIO, thumbnails: Thumbnails, keys: Iterable[str]) -> None:
    for number, key in enumerate(keys):
        data = base64.b64encode(thumbnails.data(key))
        page.write(
            b'%b\n"%b":"data:image/webp;base64,%b"' % (b"," if number else b"", key.encode(), data)
        )


def _summary(out: Path) -> dict[str, Any]:
    try:
        found = orjson.loads((out / SUMMARY).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
