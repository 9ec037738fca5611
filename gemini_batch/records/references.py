"""References of a job to pictures of other jobs: `job:robot`, `job:robot.2`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING
from unicodedata import normalize

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

PREFIX = "job:"


def referred(path: str) -> str | None:
    """Return the id of the call whose picture a path names; None for any other path."""
    return normalize("NFC", path.removeprefix(PREFIX)) if path.startswith(PREFIX) else None


def references(job: "Job") -> Iterator[tuple[str, str]]:
    """Yield (field, id of the call) of each reference of a job."""
    for number, path in enumerate(job.images):
        if (call_id := referred(path)) is not None:
            yield f"images[{number}]", call_id
    for number, part in enumerate(job.parts or ()):
        if part.image is not None and (call_id := referred(part.image)) is not None:
            yield f"parts[{number}].image", call_id
