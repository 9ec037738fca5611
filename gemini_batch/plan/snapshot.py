"""Snapshot of planning: which calls of a large manifest are not done, for the next run.

A run writes it when it has planned; the next one reads only the calls that were not done then, and
the rows since. If manifest, settings or earlier rows are others, or a setting is not known to be
covered, all lines are planned again. A damaged snapshot is none.
"""

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.catalog import models
from gemini_batch.catalog.prices import PriceTable
from gemini_batch.catalog.thinking import ANSWERS
from gemini_batch.config import Settings
from gemini_batch.errors import StorageError
from gemini_batch.manifest.reader import Manifest, PlainIndex
from gemini_batch.output.files import open_to_read, read_at_most, write_atomically
from gemini_batch.output.final_rows import Noting
from gemini_batch.output.history import History
from gemini_batch.output.paths import IMAGES, PRIVATE, RESULTS, SNAPSHOT, has_batches
from gemini_batch.output.rowless import RowlessImages
from gemini_batch.output.rows import placed_rows, row_at
from gemini_batch.output.shards import parts
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.plan.call_state import CallState
from gemini_batch.plan.canonical import CANONICAL_TAG
from gemini_batch.plan.chaining import Chaining
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.open_rows import OpenRows
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.totals import Plan
from gemini_batch.records import media_types
from gemini_batch.version import __version__

MIN_CALLS = 10_000
"""A smaller manifest is planned as fast."""
_FORMAT = 1
_TAIL_BYTES = 1 << 16
_MAX_BYTES = 1 << 30
_DIGEST_BYTES = 64
# Settings that decide about calls; others have a say only in how they are sent. Any setting that is
# in neither list must have its default, or there is no snapshot.
_COVERED = ("endpoint", "base_url", "vertex", "model", "is_model_named", "service_tier")
_OF_SENDING = frozenset(
    [
        "tier",
        "limits",
        "tables",
        "api_key",
        "auth",
        "concurrency",
        "max_attempts",
        "max_cost_usd",
        "skip_uncertain",
        "keeps_going",
        "timeouts",
        "deadline_s",
        "waits_for_reset",
        "waits_for_batches",
        "batch_patience_s",
        "batch_lines",
        "ledger",
        "run_id",
        "quota_scope",
        "proxy",
        "certificates",
        "notices",
    ]
)


def covers(config: Settings, price_table: PriceTable) -> str | None:
    """Return a hash of all that a plan depends on next to manifest and rows; None for no snapshot.

    Prices are those of the built-in table and of the config file.
    """
    for each in fields(Settings):
        if each.name in _COVERED or each.name in _OF_SENDING:
            continue
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if getattr(config, each.name) != default:
            return None
    parts = [_FORMAT, __version__, CANONICAL_TAG, *(getattr(config, name) for name in _COVERED)]
    tables = sorted(models.known().items()), sorted(price_table.items())
    return hashlib.sha256(repr((parts, tables)).encode()).hexdigest()


@dataclass(slots=True)
class Snapshot:
    """The calls of a manifest that are done, by their number, and the places of the others.

    Attributes:
        key: The result of `covers`.
        manifest_sha256: Of the manifest's content.
        rows: Inode, size, ctime, and a hash of the end of `results.jsonl`.
        calls: All calls of the manifest.
        statuses: Of the calls that are done.
        by_alias: Those of them that were done by another id of their model.
        lanes: In the order of the manifest.
        open_rows: Places of rows of calls that are not done, before `recent`.
        recent: The place of the first of the last rows.
        index: The lines of the calls that are not done.
    """

    key: str
    manifest_sha256: str
    rows: tuple[int, int, int, str]
    calls: int
    statuses: dict[str, int]
    by_alias: int
    lanes: list[str]
    successor: str | None
    recent: int
    open_rows: "array[int]" = field(default_factory=lambda: array("Q"))
    index: PlainIndex = field(default_factory=PlainIndex)

    def written(self) -> bytes:
        """Return the content of its file."""
        arrays = (self.open_rows, *self.index.arrays)
        names = [each.name for each in fields(self) if each.name not in ("open_rows", "index")]
        head = {name: getattr(self, name) for name in names}
        head["lengths"] = [len(each) for each in arrays]
        body = b"\n".join((orjson.dumps(head), b"".join(each.tobytes() for each in arrays)))
        return hashlib.sha256(body).hexdigest().encode() + body

    @classmethod
    def read(cls, data: bytes) -> "Snapshot":
        """Return a snapshot of the content of its file.

        Raises:
            ValueError: It is damaged, or of another format.
        """
        digest, body = data[:_DIGEST_BYTES], memoryview(data)[_DIGEST_BYTES:]
        if hashlib.sha256(body).hexdigest().encode() != digest:
            raise ValueError
        end = data.index(b"\n", _DIGEST_BYTES)
        head = orjson.loads(data[_DIGEST_BYTES:end])
        start, lengths = end + 1, head.pop("lengths")
        found = cls(**head | {"rows": tuple(head["rows"])})
        for each, length in zip((found.open_rows, *found.index.arrays), lengths, strict=True):
            stop = start + length * each.itemsize
            each.frombytes(data[start:stop])
            start = stop
        return found


@dataclass(slots=True)
class Found:
    """A plan, what it was made of, and the last rows."""

    plan: Plan
    history: RunHistory
    open_rows: OpenRows
    recent: Iterable[dict[str, Any]] = ()
    chaining: Chaining | None = None


def save(out: Path, key: str, manifest: Manifest, found: Found) -> None:
    """Write the snapshot of a plan, if it has one; best effort."""
    plan, history, open_rows = found.plan, found.history, found.open_rows
    done, new, again = map(plan.count, (CallState.DONE, CallState.NEW, CallState.RETRY))
    is_known = plan.is_plain and history.is_simple and open_rows.is_usable
    if len(parts(out)) > 1 or len(plan) < MIN_CALLS:
        return
    if done + new + again != len(plan) or 2 * done < len(plan):
        return
    with suppress(OSError):
        rows = _rows_key(out)
        if not is_known or rows is None:
            (out / PRIVATE / SNAPSHOT).unlink(missing_ok=True)
            return
        snapshot = Snapshot(
            key=key,
            manifest_sha256=manifest.sha256(),
            rows=rows,
            calls=len(plan),
            statuses={each.value: number for each, number in history.done_statuses().items()},
            by_alias=history.by_alias,
            lanes=list(plan.all_lanes),
            successor=plan.successor,
            recent=open_rows.recent,
            open_rows=array("Q", open_rows.before_recent()),
            index=manifest.places_of(plan.not_done()),
        )
        path = out / PRIVATE / SNAPSHOT
        write_atomically(path, snapshot.written(), durable=False, mode=0o600)


def restore(
    out: Path, key: str, manifest: Manifest, planner: Planner, config: Settings
) -> Found | None:
    """Return the plan of a manifest by its snapshot; None if all lines must be planned again."""
    found = None
    try:
        snapshot = Snapshot.read(read_at_most(out / PRIVATE / SNAPSHOT, _MAX_BYTES))
        if (
            snapshot.key != key
            or has_batches(out)
            or len(parts(out)) > 1
            or manifest.has_problems
            or not _is_grown(_rows_key(out, snapshot.rows[1]), snapshot.rows)
            or snapshot.manifest_sha256 != manifest.sha256()
        ):
            return None
        found = _restored(snapshot, out, manifest, planner, config)
    except (OSError, ValueError, TypeError, KeyError, StorageError, JobError):
        pass
    if found is None:
        manifest.clear()
    return found


def _restored(
    snapshot: Snapshot, out: Path, manifest: Manifest, planner: Planner, config: Settings
) -> Found | None:
    open_rows, unfetched = OpenRows(), Unfetched(out, config.endpoint)
    recent, since = deque[dict[str, Any]](maxlen=ANSWERS), set[str]()

    rows = History()
    notings: list[Noting] = [open_rows, unfetched, rows]
    earlier = ((place, row_at(out, place) or {}) for place in snapshot.open_rows)
    for place, row in chain(earlier, placed_rows(out, snapshot.recent)):
        for each in notings:
            each.note(place, row)
        if place >= snapshot.recent:
            recent.append(row)
        if place >= snapshot.rows[1]:
            since.add(row["id"])
    history = RunHistory(rows, config, None, RowlessImages(out, images=()), unfetched)
    plan = Plan(planner, history.state, history.are_done)
    plan.expect(snapshot.lanes, snapshot.successor)
    for index, jobs in manifest.known(snapshot.index):
        plan.add_plain(jobs, manifest.lines(index, len(jobs)))
        since.difference_update(jobs.ids)
        if any(_has_image(out, job_id) for job_id in jobs.ids):
            return None  # its row may be gone
    if since or rows.has_pruned or not open_rows.is_usable:
        return None
    plan.done_before = snapshot.calls - len(plan)
    planner.thinking.learn(recent)
    history.add_done(snapshot.statuses, snapshot.by_alias)
    return Found(plan, history, open_rows, recent)


def _rows_key(out: Path, size_bytes: int | None = None) -> tuple[int, int, int, str] | None:
    """Return the identity of the file of rows and of its first bytes; None without a file."""
    try:
        file = open_to_read(out / RESULTS)
    except FileNotFoundError:
        return None
    with file:
        status = os.fstat(file.fileno())
        end = status.st_size if size_bytes is None else size_bytes
        file.seek(max(0, end - _TAIL_BYTES))
        tail = hashlib.sha256(file.read(min(end, _TAIL_BYTES))).hexdigest()
    # Not the time that others may set, as `touch -r` and `cp -p` do.
    return status.st_ino, status.st_size, status.st_ctime_ns, tail


def _is_grown(now: tuple[int, int, int, str] | None, then: tuple[int, int, int, str]) -> bool:
    """Return whether a file is the same, or has only become longer."""
    if now is None:
        return False
    inode, size_bytes, changed_ns, tail = then
    is_longer = now[1] > size_bytes or now[1:3] == (size_bytes, changed_ns)
    return now[0] == inode and now[3] == tail and is_longer


def _has_image(out: Path, call_id: str) -> bool:
    base = os.fspath(out / IMAGES / call_id)
    return any(os.path.lexists(base + extension) for extension in media_types.ALL_EXTENSIONS)
