"""Manifests written from lines, and their jobs or problems."""

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from gemini_batch.errors import ManifestError
from gemini_batch.manifest import Manifest
from gemini_batch.manifest.plain import PlainJobs, PlainLines
from gemini_batch.records.job import Job


def written(*lines: dict[str, Any] | str | bytes) -> Path:
    """Write a manifest of these lines; a dict is a job."""
    path = Path("jobs.jsonl")
    texts = (json.dumps(line) if isinstance(line, dict) else line for line in lines)
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
    return path


@contextmanager
def carefully() -> Iterator[None]:
    """Let each line be checked as a `Job`: none is plain."""
    with patch.object(PlainLines, "read", lambda _, texts: [None] * len(texts)):
        yield


def ids_found(manifest: Manifest) -> Iterator[tuple[int, str | None]]:
    """Scan a manifest; yield the index and the id of each job."""
    for index, found in manifest.scan():
        yield from enumerate(found.ids if isinstance(found, PlainJobs) else [found.id], index)


def index_of(path: Path) -> tuple[dict[str, Any], list[str | None]]:
    """Return the index of a valid manifest, and the ids of its jobs."""
    with Manifest(path) as manifest:
        found = [job_id for _, job_id in ids_found(manifest)]
        arrays = {name: value for name, value in vars(manifest).items() if isinstance(value, array)}
    return arrays, found


def scanned(path: Path) -> list[Job]:
    """Return all jobs of a valid manifest, which are the same if its plain lines are none."""
    with carefully(), Manifest(path) as manifest:
        jobs = [job for _, job in manifest.scan() if isinstance(job, Job)]
        again = [manifest.read(index) for index in range(len(jobs))]
    assert again == jobs
    arrays, found = index_of(path)
    with carefully():
        assert (arrays, found) == index_of(path)
    assert found == [job.id for job in jobs]
    return jobs


def ids_of(*lines: dict[str, Any] | str | bytes) -> list[str | None]:
    """Return the final ids of these lines."""
    return [job.id for job in scanned(written(*lines))]


def refusal(*lines: dict[str, Any] | str | bytes) -> list[str]:
    """Return the problems of an invalid manifest, which are the same if its plain lines are none."""
    path = written(*lines)
    with pytest.raises(ManifestError) as refused:
        index_of(path)
    with carefully(), pytest.raises(ManifestError) as refused_carefully:
        index_of(path)
    assert refused.value.problems == refused_carefully.value.problems
    assert refused.value.lines() == refused_carefully.value.lines()
    return refused.value.lines()
