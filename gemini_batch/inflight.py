"""The in-flight log: what was sent and is not answered, so that a killed run can name what may have been billed."""

import os
from pathlib import Path

import orjson

FILE_NAME = "inflight.jsonl"


class InFlightLog:
    """Notes each sending and each end of it, without fsync: it survives a kill of the process, not a power cut."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(
            folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o666
        )

    def sent(self, call_id: str, request_sha256: str) -> None:
        """Note that a request is about to leave.

        Raises:
            OSError: The disk would not take the note: then the request must not leave.
        """
        os.write(self._descriptor, orjson.dumps([call_id, request_sha256]) + b"\n")

    def ended(self, call_id: str) -> None:
        """Note that the attempt ended, answered or not.

        Raises:
            OSError: The disk would not take the note.
        """
        os.write(self._descriptor, orjson.dumps([call_id]) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def unanswered(folder: Path) -> dict[str, str]:
    """Return id and request_sha256 of the calls that an earlier run sent and never saw the end of, in the order of sending."""
    open_calls: dict[str, str] = {}
    try:
        lines = (folder / FILE_NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    for line in lines:
        try:
            note = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # the last note was torn: its request had not left yet
        match note:
            case [str(call_id), str(request_sha256)]:
                open_calls[call_id] = request_sha256
            case [str(call_id)]:
                open_calls.pop(call_id, None)
            case _:
                pass
    return open_calls
