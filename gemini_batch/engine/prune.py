"""Pruning: the pictures of calls that are no longer in the manifest are moved aside.

Each such call gets a row that says where its pictures are. A kill at any moment loses nothing: the
rows are durable before the first picture moves, and the next run, or pruning, moves the others.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemini_batch.catalog import models
from gemini_batch.clock import utc_now
from gemini_batch.engine.recovery import possibly_billed
from gemini_batch.errors import ConfigError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.manifest import PlainJobs, open_manifest
from gemini_batch.output import OutputFolder
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.output.rows import newest_placed, newest_rows, part_number, read_rows
from gemini_batch.output.runs import manifests_of
from gemini_batch.output.shards import parts
from gemini_batch.plan.call_state import Aliases, CallState
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.totals import Plan
from gemini_batch.records import InputUri, Status, ids
from gemini_batch.records.job import Job


@dataclass(frozen=True, slots=True)
class Unlisted:
    """The calls of a folder that no line of its manifest has.

    Attributes:
        ids: The calls.
        by_part: The same, by the number of the part of the folder that their newest row is in.
        pictures: Their images and drafts.
    """

    ids: list[str]
    by_part: dict[int, set[str]]
    pictures: int
    size_bytes: int


def manifest_of(out: Path) -> Path:
    """Return the one manifest that all runs of a folder had.

    Raises:
        ConfigError: There were several, or none is known.
        OSError: The runs can't be read.
    """
    found = manifests_of(out)
    if not found:
        raise ConfigError(f"{out}: no run names its manifest: name it by --manifest")
    if len(found) > 1:
        names = ", ".join(found.values())
        raise ConfigError(
            f"{out}: its runs had {len(found)} manifests ({names}), and a picture that one of them "
            "lacks may be of another; nothing was moved. Give each manifest a folder of its own "
            "(--out), and copy what is done by --reuse-from"
        )
    return next(iter(found))


def unlisted(out: Path, manifest: Path) -> Unlisted:
    """Return the calls of a folder, and of its workers, that no line of a manifest has.

    A call that a killed run had in flight, or whose image is still to be fetched, is none of them.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        StorageError: Rows are damaged.
        OSError: The folder can't be read.
    """
    listed, in_flight = _listed(manifest), set[str]()
    for part in parts(out):
        if part.is_used:
            in_flight.update(possibly_billed(OutputFolder(part.path)))
    by_part: dict[int, set[str]] = {}
    sizes: list[int] = []
    found: list[str] = []
    for place, row in newest_placed(out):
        if (
            listed.get(fingerprint(row["id"]))
            or row["id"] in in_flight
            or (row["status"] == Status.FAILED and row.get("remote_images"))
        ):
            continue
        found.append(row["id"])
        by_part.setdefault(part_number(place), set()).add(row["id"])
        sizes += [each["size_bytes"] for each in (*row["images"], *row["drafts"])]
    return Unlisted(found, by_part, len(sizes), sum(sizes))


def prune(folder: OutputFolder, chosen: Collection[str]) -> None:
    """Move the pictures of calls to `superseded/`, in a locked and repaired folder of their rows.

    Raises:
        StorageError: A symbolic link, or a file, is in the place of a folder.
        OSError: The disk refused; what was begun is finished by the next run, or pruning.
    """
    with closing(ResultsFile(folder.out)) as rows:
        start_bytes = rows.end_bytes
        newest = (row for row in newest_rows(folder.out, 0) if row["id"] in chosen)
        for row in _pruned(folder, newest):
            rows.append(row)
        rows.sync()
        for row in read_rows(folder.out, start_bytes):
            folder.move_aside(row)
        folder.sync(folder.moved())
        folder.note_durable(rows.end_bytes)


def _listed(manifest: Path) -> HashMap64:
    """Return the ids of all calls of a manifest, and those that an earlier model gave them."""
    listed = HashMap64()

    def note(call_id: str, _request_sha256: str, aliases: Aliases) -> CallState:
        for each in (call_id, *(other_id for other_id, _ in aliases(lambda _id: True))):
            listed.put(fingerprint(each), 1)
        return CallState.DONE

    # The images of a job may be gone: it is still listed.
    plan = Plan(Planner(models.DEFAULT_MODEL, InputUri), note)
    with open_manifest(manifest) as opened:
        for index, found in opened.scan():
            try:
                if isinstance(found, PlainJobs):
                    plan.add_plain(found, opened.lines(index, len(found)))
                else:
                    plan.add(found, opened.line(index))
            except JobError:  # its model lacks a feature
                for call_id in _ids_of(found):
                    listed.put(fingerprint(call_id), 1)
    return listed


def _ids_of(found: PlainJobs | Job) -> list[str]:
    if isinstance(found, PlainJobs):
        return found.ids
    return [ids.call_id(found.id or "", number + 1) for number in range(found.variants)]


def _pruned(folder: OutputFolder, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the row that takes the place of each of these rows."""
    taken: set[str] = set()

    def aside(image: dict[str, Any]) -> dict[str, Any]:
        path = folder.place_aside(image["path"], taken)
        taken.add(path)
        return image | {"path": path}

    for row in rows:
        now = utc_now()
        yield row | {
            "status": Status.PRUNED,
            "images": [*map(aside, row["images"])],
            "drafts": [*map(aside, row["drafts"])],
            "usage": None,
            "cost_usd": 0.0,
            "attempts": 0,
            "latency_s": 0.0,
            "sent_at": now,
            "finished_at": now,
            "error": None,
            "reused_from": None,
            "batch": None,
        }
