"""Runs of an output folder: `summary.json` of the last one, and `runs.jsonl`, a line for each."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.output.files import MAX_SUMMARY_BYTES, lines_of, open_to_read, read_at_most
from gemini_batch.output.paths import RUNS, SUMMARY
from gemini_batch.output.shards import parts
from gemini_batch.output.whole_summary import whole

_FIELDS = (
    "manifest",
    "out",
    "tier",
    "endpoint",
    "exit_code",
    "needs_person",
    "stops",
    "calls",
    "left",
    "started_at",
    "ended_at",
    "duration_s",
)
_TOTALS = (
    "finished",
    "by_status",
    "reused",
    "sent",
    "retries",
    "possibly_billed",
    "prompt_tokens",
    "output_tokens",
    "cost_usd",
    "unpriced",
)


def run_line(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the line of a run: the fields of its summary that a history needs, in one level."""
    totals = summary.get("this_run")
    found = {name: summary.get(name) for name in _FIELDS}
    if isinstance(totals, Mapping):
        found |= {name: totals.get(name) for name in _TOTALS}
    return found


def read_runs(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of a folder; lines that are not runs, as of a power cut, are left out.

    Raises:
        OSError: The file can't be read, or is a named pipe or the like.
    """
    try:
        file = open_to_read(out / RUNS)
    except FileNotFoundError:
        return
    with file:
        for line in lines_of(file):
            try:
                run = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(run, dict) and isinstance(run.get("started_at"), str):
                yield run


def read_summary(out: Path) -> dict[str, Any]:
    """Return `summary.json` of a folder; empty without one, or if it is damaged.

    Where workers wrote, it is made of those of the newest generation.
    """
    workers = [part for part in parts(out) if part.generation is not None]
    if not workers:
        return _summary_of(out)
    newest = [part for part in workers if part.generation == workers[-1].generation]
    return whole([_summary_of(part.path) for part in newest])


def _summary_of(folder: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(read_at_most(folder / SUMMARY, MAX_SUMMARY_BYTES))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def manifests_of(out: Path) -> dict[Path, str]:
    """Return where the manifests of all runs of a folder are, or would be, with their names.

    Raises:
        OSError: The runs can't be read.
    """
    found: dict[Path, str] = {}
    for part in parts(out):
        last = _summary_of(part.path)
        runs = ({"out": last.get("out")} | run for run in (*read_runs(part.path), last))
        places = ((manifest_path(part.path, run), run.get("manifest")) for run in runs)
        found |= {path: str(name) for path, name in places if path is not None}
    return found


def other_manifests(out: Path, manifest: Path) -> Iterator[str]:
    """Yield the names of other manifests of earlier runs that are still there; raises as above."""
    for path, name in manifests_of(out).items():
        if path.is_file() and not (manifest.is_file() and path.samefile(manifest)):
            yield name


def manifest_path(out: Path, run: Mapping[str, Any]) -> Path | None:
    """Return where the manifest of a run is, or would be; None if the run names none.

    A run has both paths as given, relative to an unknown working folder. The path from one to the
    other is still valid, also if both were moved together.

    Raises:
        OSError: The working folder is gone.
    """
    manifest, given_out = run.get("manifest"), run.get("out")
    if not (manifest and isinstance(manifest, str) and isinstance(given_out, str)):
        return None
    from_out = os.path.relpath(manifest, given_out or os.curdir)
    moved = Path(os.path.normpath(out.absolute() / from_out))
    given = Path(manifest)
    return given if given.is_absolute() and not moved.is_file() else moved


def is_open(summary: Mapping[str, Any]) -> bool:
    """Return whether a summary is of a run that has not ended, or was killed."""
    return bool(summary) and summary.get("ended_at", "") is None
