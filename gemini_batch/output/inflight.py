"""The in-flight log: calls that were sent and not yet answered.

After a kill, the next run reads from it which calls may have been billed.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from gemini_batch.output.files import (
    fsync_all,
    lines_of,
    open_regular,
    open_to_read,
    write_atomically,
    write_whole,
)
from gemini_batch.output.paths import IN_FLIGHT


class InFlightLog:
    """Records the start and the end of each attempt.

    It is not fsynced: it survives a kill of the process, but not a power cut. A new log replaces
    an earlier one atomically.

    Args:
        rows_bytes: The current size of `results.jsonl`.
        still_open: Calls of the earlier log (id → request_sha256) that stay open.

    Raises:
        OSError: The log can't be written; also by `sent` and `ended`.
    """

    def __init__(
        self, folder: Path, rows_bytes: int, still_open: Mapping[str, str] | None = None
    ) -> None:
        log = folder / IN_FLIGHT
        notes = ([*call, rows_bytes] for call in (still_open or {}).items())
        write_atomically(log, b"".join(map(_line, notes)), durable=False, mode=0o600)
        self._descriptor = open_regular(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)

    def sent(self, call_id: str, request_sha256: str, rows_bytes: int) -> None:
        """Record that a request is about to be sent; if this raises, it must not be sent.

        `rows_bytes` is the current size of `results.jsonl`; a row of the call follows behind it.
        """
        write_whole(self._descriptor, _line([call_id, request_sha256, rows_bytes]))

    def ended(self, call_id: str) -> None:
        """Record that the attempt ended, with an answer or without."""
        write_whole(self._descriptor, _line([call_id]))

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _line(note: object) -> bytes:
    # The line break comes first, so that a torn note spoils no other.
    return b"\n" + orjson.dumps(note)


def add(folder: Path, calls: Mapping[str, str]) -> None:
    """Add calls (id → request_sha256) of another run to the log of a folder that no run holds.

    Durable, for the log that they are from is given up.
    """
    found = unacknowledged(folder)
    notes = ([*call, found.rows_bytes] for call in {**found.calls, **calls}.items())
    write_atomically(folder / IN_FLIGHT, b"".join(map(_line, notes)), durable=True, mode=0o600)
    fsync_all([folder])


def forget(folder: Path) -> None:
    """Remove the log of an earlier run; raise OSError if that fails."""
    (folder / IN_FLIGHT).unlink(missing_ok=True)


@dataclass(slots=True)
class Unacknowledged:
    """The attempts of an earlier run whose end was not recorded.

    Attributes:
        calls: Id → request_sha256, in the order of sending.
        rows_bytes: The size of `results.jsonl` when the first of them was sent.
    """

    calls: dict[str, str]
    rows_bytes: int


def unacknowledged(folder: Path) -> Unacknowledged:
    """Return the attempts that the log of an earlier run left open."""
    notes: dict[str, tuple[str, int]] = {}
    with suppress(FileNotFoundError), open_to_read(folder / IN_FLIGHT) as file:
        for line in lines_of(file):
            try:
                note = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # a torn note: its request was not sent
            match note:
                case [str(call_id), str(request_sha256), int(rows_bytes)]:
                    notes[call_id] = request_sha256, max(0, rows_bytes)
                case [str(call_id)]:
                    notes.pop(call_id, None)
                case _:
                    pass
    return Unacknowledged(
        {call_id: request_sha256 for call_id, (request_sha256, _) in notes.items()},
        min((rows_bytes for _, rows_bytes in notes.values()), default=0),
    )
