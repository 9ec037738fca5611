"""Answers of other output folders: found by what was asked, copied and verified in place of asking, and paying, again.

Identical requests of a manifest are variants, and each of them takes another answer; when these are used up, it is sent.
"""

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, TypeVar

from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output import StagedAnswer
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.rows import newest_rows, placed_rows, row_at
from gemini_batch.records import IncomingImage, Reply, ReusedFrom, Status

T = TypeVar("T")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ReusedAnswer:
    """An answer whose image has been copied; what it cost, and its drafts, stay where they were paid for."""

    reply: Reply
    source: ReusedFrom


@dataclass(frozen=True, slots=True)
class NotReusable:
    """An answer that can't be reused after all; the message says why."""

    message: str


class Reuse:
    """The answers of other folders, at about a hundred bytes each.

    Only images count, never an answer without one, and only those of the same endpoint: what a simulator drew never stands for a
    real answer. An answer that the output folder has already, copied by an earlier run, is not taken a second time.

    Args:
        folders: The other folders, as the person named them; an answer of an earlier one is preferred.
        endpoint: Where this run would send to.
        out: The run's own folder.

    Attributes:
        reserved: How many calls are to take their answer from which folder.

    Raises:
        ConfigError: A folder has no results, they are damaged, or it is the run's own.
        StorageError: The results of the output folder are damaged.
        OSError: They can't be read.
    """

    def __init__(self, folders: Sequence[Path], endpoint: str, out: Path) -> None:
        self._folders = tuple(folders)
        self._endpoint = endpoint
        # One entry an answer: its folder, the place of its row, a hash of itself, whether it is taken or superseded, and the
        # number (its index and 1) of another one to the same request.
        self._homes = array("H")
        self._places = array("Q")
        self._hashes = array("Q")
        self._taken = bytearray()
        self._others = array("Q")
        self._of_request = HashMap64()  # what was asked → the number of an answer
        self._of_call = HashMap64()  # what was asked, under which id → the number of its answer
        self._in_use = (
            HashMap64()
        )  # hashes of the answers that are in the output folder, or are to be
        self._choices = HashMap64()  # call → the number of the answer that it takes
        self.reserved = Counter[str]({str(folder): 0 for folder in folders})
        for row in newest_rows(out):
            if _is_usable(row, endpoint):
                self._in_use.put(_hash(row), 1)
        for home in reversed(range(len(folders))):
            self._read(home, folders[home], out)

    def _read(self, home: int, folder: Path, out: Path) -> None:
        if not (folder / RESULTS).exists():
            raise ConfigError(
                f"--reuse-from: {folder}: has no {RESULTS}; name the output folder of a run, such as jobs.out"
            )
        if folder.resolve() == out.resolve():
            raise ConfigError(
                f"--reuse-from: {folder}: is the output folder itself, whose answers count anyway"
            )
        newest = HashMap64()
        for place, row in _readable(placed_rows(folder), folder):
            call = fingerprint(row["id"])
            if superseded := newest.get(call):
                self._taken[superseded - 1] = True
            newest.put(call, self._add(home, place, row) if _is_usable(row, self._endpoint) else 0)

    def _add(self, home: int, place: int, row: dict[str, Any]) -> int:
        request = fingerprint(row["request_sha256"])
        self._homes.append(home)
        self._places.append(place)
        self._hashes.append(_hash(row))
        self._taken.append(False)
        self._others.append(self._of_request.get(request) or 0)
        number = len(self._homes)
        self._of_request.put(request, number)
        self._of_call.put(fingerprint((row["request_sha256"], row["id"])), number)
        return number

    # --- while planning ---

    def reserve(self, call_id: str, request_sha256: str) -> bool:
        """Set an answer aside for a call that is to be made; False when there is none left.

        A call gets the answer of the call of its own id, if that asked for the same.
        """
        for number in self._free(call_id, request_sha256):
            self._taken[number - 1] = True
            home = self._folders[self._homes[number - 1]]
            row = row_at(home, self._places[number - 1])
            if row is None or row["request_sha256"] != request_sha256 or not _has_image(home, row):
                continue
            if self._in_use.claim(self._hashes[number - 1], 1) is not None:
                continue
            self._choices.put(fingerprint((call_id, request_sha256)), number)
            self.reserved[str(home)] += 1
            return True
        return False

    def _free(self, call_id: str, request_sha256: str) -> Iterator[int]:
        same = self._of_call.get(fingerprint((request_sha256, call_id)))
        if same and not self._taken[same - 1]:
            yield same
        request = fingerprint(request_sha256)
        while number := self._of_request.get(request):
            self._of_request.put(request, self._others[number - 1])
            if not self._taken[number - 1]:
                yield number

    # --- when its turn comes ---

    def has(self, call_id: str, request_sha256: str) -> bool:
        """Return whether an answer is set aside for this very call."""
        return bool(self._choices.get(fingerprint((call_id, request_sha256))))

    def release(self, call_id: str, request_sha256: str) -> None:
        """Forget the answer that was set aside: it has been taken, or is gone."""
        self._choices.put(fingerprint((call_id, request_sha256)), 0)

    def copy(
        self, call_id: str, request_sha256: str, incoming: StagedAnswer
    ) -> ReusedAnswer | NotReusable:
        """Copy the image that was set aside, and make sure that it is what its row says. Blocks.

        What was copied of an image that turns out to be another one is removed.

        Raises:
            OSError: The output folder would not take it.
        """
        number = self._choices.get(fingerprint((call_id, request_sha256))) or 0
        home = self._folders[self._homes[number - 1]]
        row = row_at(home, self._places[number - 1]) if number else None
        if (
            row is None
            or row["request_sha256"] != request_sha256
            or not _is_usable(row, self._endpoint)
        ):
            return NotReusable(f"the row of its answer is gone from {home}")
        file = home / row["images"][0]["path"]
        try:
            image = _copied(file, incoming)
        except _UnreadableError as error:
            incoming.discard()
            return NotReusable(f"{file}: can't be read: {error}")
        if image.sha256 != row["images"][0]["sha256"]:
            incoming.discard()
            return NotReusable(f"{file}: is not the image of its row any more")
        return ReusedAnswer(_reply(row, image), ReusedFrom(str(home), row["id"]))


class _UnreadableError(Exception):
    """The other folder would not give it; whatever the own folder raises is another matter."""


def _copied(source: Path, incoming: StagedAnswer) -> IncomingImage:
    # A copy: a hard link would let a later edit of one change the other.
    with _opened(source) as file:
        part = incoming.open_image(0)
        while block := _block(file):
            part.write(block)
    return incoming.arrived()[0]


def _opened(path: Path) -> BinaryIO:
    try:
        return open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        )  # a pipe hangs nobody
    except OSError as error:
        raise _UnreadableError(error.strerror) from error


def _block(file: BinaryIO) -> bytes:
    try:
        return file.read(_BLOCK_BYTES)
    except OSError as error:
        raise _UnreadableError(error.strerror) from error


def _readable(rows: Iterator[T], folder: Path) -> Iterator[T]:
    """Yield what another folder has; that it can't be read is a matter of the flag that names it."""
    try:
        yield from rows
    except OSError as error:
        raise ConfigError(f"--reuse-from: {folder}: can't be read: {error.strerror}") from error
    except StorageError as error:
        raise ConfigError(f"--reuse-from: {error}") from error


def _is_usable(row: dict[str, Any], endpoint: str) -> bool:
    return (
        row["status"] == Status.SUCCEEDED
        and row["endpoint"] == endpoint
        and len(row["images"]) == 1
    )


def _hash(row: dict[str, Any]) -> int:
    """Return a hash of the answer, wherever it was copied to."""
    response_id = row.get("response_id")
    return fingerprint(
        (response_id if isinstance(response_id, str) else None, row["images"][0]["sha256"])
    )


def _has_image(home: Path, row: dict[str, Any]) -> bool:
    """Return whether the image is there, by its size; its content is looked at when it is copied."""
    image = row["images"][0]
    path: str = image["path"]
    if path.startswith("/") or ".." in path.split("/"):
        return False  # in a folder that somebody else gave us, perhaps
    try:
        status = (home / path).stat()
    except (OSError, ValueError):
        return False
    return S_ISREG(status.st_mode) and status.st_size == image.get("size_bytes")


def _reply(row: dict[str, Any], image: IncomingImage) -> Reply:
    """Return the answer as it would be, had it been given now; its tokens were used, and paid for, elsewhere."""
    return Reply(
        image=image,
        drafts=(),
        text=row.get("text"),
        finish_reason=row.get("finish_reason"),
        finish_message=row.get("finish_message"),
        block_reason=None,
        safety_ratings=row.get("safety_ratings") or [],
        usage=None,
        model_version=row.get("model_version"),
        response_id=row.get("response_id"),
    )
