"""The in-flight log: what was sent and is not answered, so that a killed run can name what may have been billed."""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from gemini_batch.output.files import write_atomically
from gemini_batch.output.paths import IN_FLIGHT


class InFlightLog:
    """Notes each sending and each end of it, without fsync: it survives a kill of the process, not a power cut."""

    def __init__(
        self, folder: Path, rows_bytes: int, still_open: Mapping[str, str] | None = None
    ) -> None:
        """Begin a new log, in place of an earlier one whole or not at all.

        Args:
            folder: Where it is.
            rows_bytes: The size of `results.jsonl` now.
            still_open: Calls of the earlier log (id → request_sha256) that are still to be dealt with.

        Raises:
            OSError: The disk would not.
        """
        log = folder / IN_FLIGHT
        notes = ([*call, rows_bytes] for call in (still_open or {}).items())
        write_atomically(log, b"".join(map(_line, notes)), durable=False)
        self._descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def sent(self, call_id: str, request_sha256: str, rows_bytes: int) -> None:
        """Note that a request is about to leave.

        Args:
            call_id: Of the call.
            request_sha256: What is asked for.
            rows_bytes: The size of `results.jsonl` now: if the call is answered, its row stands behind it.

        Raises:
            OSError: The disk would not take the note: then the request must not leave.
        """
        self._note([call_id, request_sha256, rows_bytes])

    def ended(self, call_id: str) -> None:
        """Note that the attempt ended, answered or not.

        Raises:
            OSError: The disk would not take the note.
        """
        self._note([call_id])

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _note(self, note: object) -> None:
        line = _line(note)
        if os.write(self._descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _line(note: object) -> bytes:
    # The line break comes first, so that a torn note spoils no other.
    return b"\n" + orjson.dumps(note)


def forget(folder: Path) -> None:
    """Remove what an earlier run left; it was told, and there is nothing to send.

    Raises:
        OSError: The disk would not.
    """
    (folder / IN_FLIGHT).unlink(missing_ok=True)


@dataclass(slots=True)
class Unacknowledged:
    """What an earlier run sent and never saw the end of.

    Attributes:
        calls: Id → request_sha256, in the order of sending.
        rows_bytes: The size of `results.jsonl` when the first of them was sent.
    """

    calls: dict[str, str] = field(default_factory=dict)
    rows_bytes: int = 0


def unacknowledged(folder: Path) -> Unacknowledged:
    """Return what the log of an earlier run left open."""
    found, places = Unacknowledged(), dict[str, int]()
    try:
        file = (folder / IN_FLIGHT).open("rb")
    except FileNotFoundError:
        return found
    with file:
        for line in file:
            try:
                note = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # a torn note: its request had not left yet
            match note:
                case [str(call_id), str(request_sha256), int(rows_bytes)]:
                    found.calls[call_id] = request_sha256
                    places[call_id] = max(0, rows_bytes)
                case [str(call_id)]:
                    found.calls.pop(call_id, None)
                case _:
                    pass
    found.rows_bytes = min((places[call_id] for call_id in found.calls), default=0)
    return found
