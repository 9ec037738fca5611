"""Writer of manifests: jobs from Python become the lines of a file."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.records.job import Job

AnyJob: TypeAlias = Job | Mapping[str, Any]
"""A job, or the fields of a manifest line; NaN in a field is an absent one, as in pandas."""
NAME = "jobs"
"""Replaces the manifest's path in messages and in the summary: `jobs:17: id: …` is the 17th job."""
_YIELD_EVERY = 1_000
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


async def write_jobs(jobs: Iterable[AnyJob] | AsyncIterable[AnyJob], path: Path) -> None:
    """Write jobs as a manifest, one per line.

    Cancellation: the file is incomplete.

    Raises:
        TypeError: Something is not a job.
        ManifestError: A job can't be written as JSON.
    """
    number = 0
    with path.open("wb") as file:
        async for job in _each(jobs):
            number += 1
            file.write(_line(job, number))


async def _each(
    jobs: Iterable[AnyJob] | AsyncIterable[AnyJob],
) -> AsyncIterator[AnyJob]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
        return
    for number, job in enumerate(jobs, start=1):
        yield job
        if number % _YIELD_EVERY == 0:
            await asyncio.sleep(0)


def _line(job: object, number: int) -> bytes:
    if not isinstance(job, Job | Mapping):
        allowed = "must be a gemini_batch.Job, or a dict of a line's fields"
        raise TypeError(f"{NAME}:{number}: got {type(job).__name__}; {allowed}")
    try:
        if isinstance(job, Job):
            return job.model_dump_json(exclude_defaults=True).encode() + b"\n"
        return orjson.dumps(job, _plain, _OPTIONS)
    except (ValueError, TypeError) as error:
        problem = Problem(number, "", f"can't be written as JSON: {error}")
        raise ManifestError(NAME, [problem]) from error


def _plain(value: object) -> object:
    """Return what is written for a value that JSON does not have: a path, pandas' NA, a mapping."""
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, Mapping):
        return dict(value)
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
