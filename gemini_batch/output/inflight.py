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

# About 30,000 attempts.
_GROWTH_BYTES = 4 << 20
_CREATE = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class InFlightLog:
    """Records the start and the end of each attempt.

    It is not fsynced: it survives a kill of the process, but not a power cut. A new log replaces
    an earlier one atomically, and so does one of the open attempts alone when the log has grown.

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
        calls = (still_open or {}).items()
        self._open = {call_id: _line([call_id, asked, rows_bytes]) for call_id, asked in calls}
        notes = b"".join(self._open.values())
        write_atomically(log, notes, durable=False, mode=0o600)
        self._descriptor = open_regular(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        # The folder may be moved meanwhile, and its name be that of another run's.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._size_bytes, self._most_bytes = len(notes), len(notes) + _GROWTH_BYTES

    def sent(self, call_id: str, request_sha256: str, rows_bytes: int) -> None:
        """Record that a request is about to be sent; if this raises, it must not be sent.

        `rows_bytes` is the current size of `results.jsonl`; a row of the call follows after it.
        """
        note = _line([call_id, request_sha256, rows_bytes])
        self._write(note)
        self._open[call_id] = note
        if self._size_bytes > self._most_bytes:
            self._compact()

    def ended(self, call_id: str) -> None:
        """Record that the attempt ended, with an answer or without."""
        self._write(_line([call_id]))
        self._open.pop(call_id, None)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
        os.close(self._folder)

    def _write(self, note: bytes) -> None:
        write_whole(self._descriptor, note)
        self._size_bytes += len(note)

    def _compact(self) -> None:
        """Replace the log by one of the open attempts alone; a disk that refuses leaves it."""
        notes, part = b"".join(self._open.values()), f"{IN_FLIGHT}.part"
        self._most_bytes = self._size_bytes + _GROWTH_BYTES
        try:
            with suppress(FileNotFoundError):
                os.unlink(part, dir_fd=self._folder)  # of a killed process
            # Open before the rename: no note may go to a log that has lost its name.
            new = os.open(part, _CREATE, 0o600, dir_fd=self._folder)
        except OSError:
            return
        try:
            write_whole(new, notes)
            os.rename(part, IN_FLIGHT, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except OSError:
            os.close(new)
            return
        old, self._descriptor = self._descriptor, new
        self._size_bytes, self._most_bytes = len(notes), len(notes) + _GROWTH_BYTES
        os.close(old)


def _line(note: object) -> bytes:
    # The line break comes first, so that a torn note spoils no other.
    return b"\n" + orjson.dumps(note)


def add(folder: Path, calls: Mapping[str, str]) -> None:
    """Add calls (id → request_sha256) of another run to the log of a folder that no run holds.

    Durable, because the log that they are from is given up.
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
