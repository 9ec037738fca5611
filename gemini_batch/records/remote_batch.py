"""Batches and files as the server has them, and the outcome of a create.

Two values are never enough to act on alone. A 404 of a batch is one look, and no proof that it is
gone: servers have answered so for batches that ran (collected 2026-11-30). And a batch that is not
in a `Listing` is absent only if the listing `is_complete`, and the list may lag behind a create.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from gemini_batch.records.answer import ApiError, Failure


class BatchState(StrEnum):
    """States of a batch, without the prefix `BATCH_STATE_` or `JOB_STATE_`."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"  # the server names none, or one that is not known here: it may still run

    @property
    def is_terminal(self) -> bool:
        """True if the server does no more work for the batch."""
        return self not in {BatchState.PENDING, BatchState.RUNNING, BatchState.UNKNOWN}


@dataclass(frozen=True, slots=True)
class BatchStats:
    """Numbers of requests; 0 where the server leaves one out, and all None without stats."""

    requests: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    pending: int | None = None


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as the server described it at one moment.

    Attributes:
        name: `batches/…`.
        state: Of the metadata; of an operation that is done, never one that still runs.
        model: Without `models/`; "" if the server left it out, as in the other texts.
        input_file: `files/…`, by which an orphan is found as well as by its `display_name`.
        output_file: `files/batch-…`, in any state. It may follow later than `SUCCEEDED`.
        error: Of the whole batch.
        has_inline_results: Its answers are in the operation, which is not read here.
    """

    name: str
    state: BatchState
    model: str = ""
    display_name: str = ""
    input_file: str = ""
    output_file: str = ""
    error: ApiError | None = None
    stats: BatchStats = BatchStats()
    created_at: datetime | None = None
    ended_at: datetime | None = None
    has_inline_results: bool = False


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of the Files API; texts that the server left out are "".

    Attributes:
        name: `files/…`.
        state: `ACTIVE`, `PROCESSING`, `FAILED`, or another name.
    """

    name: str
    state: str = ""
    size_bytes: int | None = None
    display_name: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Created:
    """The batch exists."""

    batch: RemoteBatch


@dataclass(frozen=True, slots=True)
class Refused:
    """The batch was not created: the request did not leave, or the server refused it."""

    error: ApiError | Failure


@dataclass(frozen=True, slots=True)
class Unknown:
    """The batch may have been created, and will then be paid for: it must be looked for."""

    error: ApiError | Failure


CreateOutcome: TypeAlias = Created | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Listing:
    """Batches of a list.

    Attributes:
        batches: As the server orders them, the newest first; of pages that were read.
        is_complete: All pages were read, or all that may have batches of the time asked for.
        error: Why it is not complete.
    """

    batches: tuple[RemoteBatch, ...]
    is_complete: bool
    error: ApiError | Failure | None = None
