"""The calls that wait in batches: which of them an open batch may still answer."""

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gemini_batch.config.endpoints import service
from gemini_batch.errors import StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.batch_note import BatchNote, Step
from gemini_batch.records import Status

if TYPE_CHECKING:  # most folders have no batches
    from gemini_batch.output.batches import BatchLines
    from gemini_batch.records import Facts, ResultRow

T = TypeVar("T")

_GIVEN_BACK = frozenset({Status.FAILED, Status.UNCERTAIN})
_ANSWERED = frozenset({Status.SUCCEEDED, Status.BLOCKED, Status.REJECTED})
_POSITION_BITS = 32
_POSITION_MASK = (1 << _POSITION_BITS) - 1


class Mark:
    """Facts about a call in a batch, as bits: an `IntFlag` takes ten times as long."""

    TAKEN = 1  # its answer has a row
    FREED = 2  # the batch gave it back: it may be sent again
    OVERTAKEN = 4  # the call has another answer to the same request since the batch was made
    EDITED = 8  # the manifest asks for another request now
    ASKED = 16  # the manifest asks for it
    PASSED = 32  # the call has an answer to another request since the batch was made


@dataclass(eq=False, slots=True)
class OpenBatch:
    """A batch on the disk, and the marks of its calls: 17 bytes each in memory.

    Attributes:
        problem: What is damaged; "" for nothing.
        start: The place of the first row of the folder that it was made in.
        folder: The folder that it is in; None for that of the run.
    """

    note: "BatchNote"
    lines: "BatchLines | None"
    problem: str = ""
    start: int = 0
    folder: Path | None = None
    _marks: bytearray = field(init=False)
    _requests: "array[int]" = field(init=False)  # a hash of each call's request

    def __post_init__(self) -> None:
        """Start without marks."""
        self._marks, self._requests = bytearray(self.note.calls), array("Q")

    @property
    def waiting(self) -> int:
        """The number of calls without a row, that wait for the batch."""
        done = Mark.TAKEN | Mark.FREED
        return sum(not mark & done for mark in self._marks)

    @property
    def committed_usd(self) -> float:
        """The estimated cost of the calls that wait; 0 where a price is unknown."""
        return (self.note.estimated_usd or 0.0) * self.waiting / max(1, self.note.calls)

    @property
    def is_awaited(self) -> bool:
        """True while the batch holds calls back: it may exist, and is not given up."""
        step = self.note.step  # asked for each call: a set would hash it in Python
        return step is not Step.PLANNED and step is not Step.UPLOADED and step is not Step.LOST

    def mark(self, position: int) -> int:
        """Return the marks of a call."""
        return self._marks[position]

    def is_late(self, position: int) -> bool:
        """Return whether an answer that comes now is none that its call needs."""
        mark = self._marks[position]
        is_passed = mark & (Mark.PASSED | Mark.ASKED) == Mark.PASSED
        return bool(mark & (Mark.OVERTAKEN | Mark.EDITED)) or is_passed

    def add(self, position: int, mark: int) -> None:
        """Mark a call."""
        self._marks[position] |= mark

    def open_again(self, position: int) -> None:
        """Take back that a call has its row: that one is lost."""
        self._marks[position] &= ~(Mark.TAKEN | Mark.FREED)

    def open_positions(self) -> Iterator[int]:
        """Yield the positions of the calls that wait."""
        done = Mark.TAKEN | Mark.FREED
        return (position for position, mark in enumerate(self._marks) if not mark & done)

    def facts(self, position: int) -> "Facts":
        """Return the facts of a call.

        Raises:
            StorageError: They are damaged, or the disk refused.
        """
        return self._read(position, _facts)

    def _read(self, position: int, read: Callable[["BatchLines", int], T]) -> T:
        if self.lines is None:
            raise StorageError(f"batch {self.note.uuid}: its calls are gone")
        try:
            return read(self.lines, position)
        except (ValueError, OSError) as error:
            raise StorageError(
                f"{self.lines.path}:{position + 1}: the facts of the call can't be read: {error}; "
                "put the file back from a backup, or remove its folder to send the calls of the "
                "batch, and pay for them, again"
            ) from error

    def index(self) -> Iterator[tuple[int, int]]:
        """Yield (hash of its id, position) of each call, and keep the hash of its request."""
        self._requests = array("Q")
        try:
            for position in range(self.note.calls):
                call_id, sha256 = self._read(position, _names)
                self._requests.append(_request(sha256, self.note.endpoint))
                yield fingerprint(call_id), position
        finally:
            if self.lines is not None:
                self.lines.close()  # until its results are read

    def is_of(self, position: int, request_sha256: str, endpoint: str) -> bool:
        """Return whether a call has this request, at a place with the same answers."""
        return self._requests[position] == _request(request_sha256, endpoint)


class Waiting:
    """The open batches of an output folder, and the calls in them by their ids.

    A call that an open batch may still answer is not sent in any other way.

    Attributes:
        batches: The oldest first.
        start: The place of the first row of the folder that the run writes into.
    """

    def __init__(self, batches: Iterable[OpenBatch] = (), start: int = 0) -> None:
        self.start = start
        self.batches: list[OpenBatch] = []
        self._calls = HashMap64()  # id → number of its batch and its position, plus 1
        self._others: dict[int, list[int]] = {}  # the same of its other batches
        for batch in batches:
            self.add(batch)

    def __bool__(self) -> bool:
        return bool(self.batches)

    @property
    def committed_usd(self) -> float:
        """The estimated cost of the calls that wait; 0 where a price is unknown."""
        return sum(batch.committed_usd for batch in self.batches if batch.is_awaited)

    def add_new(self, note: "BatchNote", lines: "BatchLines") -> OpenBatch:
        """Add a batch of this run, and return it."""
        batch = OpenBatch(note, lines, start=self.start)
        self.add(batch)
        return batch

    def add(self, batch: OpenBatch) -> None:
        """Add a batch; its calls wait from now on."""
        number = len(self.batches)
        self.batches.append(batch)
        if batch.lines is None:
            return
        for call, position in batch.index():
            place = (number << _POSITION_BITS | position) + 1
            if self._calls.claim(call, place) is not None:
                self._others.setdefault(call, []).append(place)

    def open_at(self, endpoint: str) -> list[OpenBatch]:
        """Return the batches that hold back calls to this service."""
        return [
            batch
            for batch in self.batches
            if batch.is_awaited
            and batch.waiting
            and service(batch.note.endpoint) == service(endpoint)
        ]

    def is_of_other(self, row: "ResultRow") -> bool:
        """Return whether a row is of a call in a batch that the manifest does not ask for."""
        key = row.batch.key if row.batch else ""
        return any(
            batch.note.position(key) == position and not batch.mark(position) & Mark.ASKED
            for batch, position in self._places(row.id)
        )

    def drop(self, batch: OpenBatch) -> None:
        """Let no call wait for a batch: its note is removed."""
        batch.note = replace(batch.note, step=Step.PLANNED)

    def close(self) -> None:
        """Close the files of all batches."""
        for batch in self.batches:
            if batch.lines is not None:
                batch.lines.close()

    def has(self, call_id: str) -> bool:
        """Return whether a call of this id, with any request, is in a batch."""
        return self._calls.get(fingerprint(call_id)) is not None

    def holds(self, call_id: str, request_sha256: str, endpoint: str) -> bool:
        """Return whether an open batch may still answer this very call."""
        done = Mark.TAKEN | Mark.FREED
        return any(
            batch.is_awaited
            and not batch.mark(position) & done
            and batch.is_of(position, request_sha256, endpoint)
            for batch, position in self._places(call_id)
        )

    def awaits(self, call: int, endpoint: str) -> bool:
        """Return whether an open batch may bring what the manifest asks of a call.

        `call` is the fingerprint of its id.
        """
        if not self.batches:
            return False
        done = Mark.TAKEN | Mark.FREED
        return any(
            batch.is_awaited
            and not batch.mark(position) & done
            and not batch.is_late(position)
            and service(batch.note.endpoint) == service(endpoint)
            for batch, position in self._places_of(call)
        )

    def is_of_all(self, call_id: str, request_sha256: str, endpoint: str) -> bool:
        """Return whether the manifest asks of a call what all its batches do; note it if so."""
        places = [*self._places(call_id)]
        if not all(batch.is_of(position, request_sha256, endpoint) for batch, position in places):
            return False
        for batch, position in places:
            batch.add(position, Mark.ASKED)
        return True

    def note_asked(self, call_id: str, request_sha256s: Collection[str], endpoint: str) -> None:
        """Note what the manifest asks of a call: its answers to other requests are late."""
        for batch, position in self._places(call_id):
            is_same = any(batch.is_of(position, each, endpoint) for each in request_sha256s)
            batch.add(position, Mark.ASKED if is_same else Mark.EDITED)

    def note(self, place: int, row: Mapping[str, Any]) -> None:
        """Mark the call of a row of `placed_rows`."""
        if self.has(row["id"]):
            is_paid = row["status"] not in _GIVEN_BACK or bool(row.get("remote_images"))
            request = row["request_sha256"], row["endpoint"]
            key = _key(row.get("batch"))
            self._see(row["id"], request, row["status"], key, place, is_paid=is_paid)

    def see(self, row: "ResultRow", place: int) -> None:
        """Mark the calls of which a row is that this run wrote at a byte of its file."""
        if self.has(row.id):
            key = row.batch.key if row.batch else ""
            is_paid = row.status not in _GIVEN_BACK or bool(row.remote_images)
            request = row.request_sha256, row.endpoint
            self._see(row.id, request, row.status, key, self.start + place, is_paid=is_paid)

    def _see(
        self,
        call_id: str,
        request: tuple[str, str],
        status: str,
        key: str,
        place: int,
        *,
        is_paid: bool,
    ) -> None:
        for batch, position in self._places(call_id):
            if batch.note.position(key) == position:
                if status == Status.LOST:
                    batch.open_again(position)
                else:
                    batch.add(position, Mark.TAKEN if is_paid else Mark.FREED)
            elif status in _ANSWERED and place >= batch.start + batch.note.rows_bytes:
                is_same = batch.is_of(position, *request)
                batch.add(position, Mark.OVERTAKEN if is_same else Mark.PASSED)

    def _places(self, call_id: str) -> Iterator[tuple[OpenBatch, int]]:
        return self._places_of(fingerprint(call_id))

    def _places_of(self, call: int) -> Iterator[tuple[OpenBatch, int]]:
        first = self._calls.get(call)
        if first is not None:
            for place in (first, *self._others.get(call, ())):
                yield (
                    self.batches[(place - 1) >> _POSITION_BITS],
                    (place - 1) & _POSITION_MASK,
                )


def _facts(lines: "BatchLines", position: int) -> "Facts":
    return lines.facts(position)


def _names(lines: "BatchLines", position: int) -> tuple[str, str]:
    return lines.names(position)


def _key(batch: Any) -> str:
    key = batch.get("key") if isinstance(batch, Mapping) else None
    return key if isinstance(key, str) else ""


def _request(request_sha256: str, endpoint: str) -> int:
    return fingerprint((request_sha256, service(endpoint)))
