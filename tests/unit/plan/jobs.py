"""Jobs, their requests and their calls, planned without files."""

from dataclasses import replace
from typing import Any

import pytest

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.plan import (
    JobError,
    Planner,
)
from gemini_batch.records import (
    Call,
    InputImage,
    InputUri,
    Request,
)
from gemini_batch.records.job import Job

SMALL = InputImage("in/a.png", "/jobs/in/a.png", "image/png", 300, 7, "ab" * 32)
LARGE = InputImage(
    "big.jpg",
    "/jobs/big.jpg",
    "image/jpeg",
    4_000_000,
    7,
    "ef" * 32,
    4000,
    1000,
    max_pixels=1_000_000,
)


def resolve(path: str) -> InputImage | InputUri:
    """Return an image: `?` is missing, a number is its size in bytes, other paths are one small image."""
    if path == "?":
        raise ValueError('got "?"; there is no such file')
    if path.startswith("https:"):
        return InputUri(path)
    if path.startswith("large"):
        return replace(LARGE, path=path)
    size = int(path) if path.isdecimal() else SMALL.size_bytes
    return replace(SMALL, path=path, size_bytes=size)


PLANNER = Planner(DEFAULT_MODEL, resolve)


def job(**fields: Any) -> Job:
    """Return a job, its id `robot` if it has none."""
    return Job.model_validate({"id": "robot", **fields})


def request(**fields: Any) -> Request:
    """Return the request of a job."""
    return PLANNER.request(job(**fields), 1)


def expanded(job: Job, line: int) -> list[Call]:
    """Return the calls of a job."""
    return [PLANNER.call(job, line, variant) for variant in range(1, job.variants + 1)]


def about(usd: float) -> Any:
    """Return a value that equals an amount except for rounding."""
    return pytest.approx(usd)


def refusal(**fields: Any) -> list[str]:
    """Return the problems of a job that can't be planned."""
    with pytest.raises(JobError) as refused:
        PLANNER.request(job(**fields), 17)
    return [problem.text("jobs.jsonl") for problem in refused.value.problems]
