"""Tables of jobs, and what a run makes of them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.errors import ManifestError
from gemini_batch.manifest import open_manifest
from gemini_batch.records.job import Job


def read(path: Path) -> list[tuple[int, Job]]:
    """Return the line and the job of each row, as they are read when their turn comes to be sent."""
    found: list[tuple[int, Job]] = []
    with open_manifest(path) as manifest:
        for _ in manifest.scan():
            pass
        while True:
            try:
                job = manifest.read(len(found))
            except IndexError:
                return found
            assert job is not None
            found.append((manifest.line(len(found)), job))


def jobs_in(content: str | bytes, name: str = "jobs.csv") -> list[Job]:
    """Return the jobs of a table."""
    return [job for _, job in read(table(content, name))]


def problems_in(content: str | bytes, name: str = "jobs.csv") -> list[str]:
    """Return the problems of a table."""
    with pytest.raises(ManifestError) as refused:
        read(table(content, name))
    return refused.value.lines()


def table(content: str | bytes, name: str = "jobs.csv") -> Path:
    """Write a table."""
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def as_csv(jobs: list[dict[str, Any]], **dialect: Any) -> str:
    """Return a table of jobs, as a program writes it: lists and objects are JSON."""
    columns = list(dict.fromkeys(name for job in jobs for name in job))
    file = io.StringIO(newline="")
    writer = csv.writer(file, **dialect)
    writer.writerow(columns)
    for job in jobs:
        values = (job.get(name, "") for name in columns)
        writer.writerow(value if isinstance(value, str) else json.dumps(value) for value in values)
    return file.getvalue()
