"""The newest pictures of calls that others use, and the pictures that these were made of."""

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gemini_batch.hashmap import MASK, HashMap64, fingerprint
from gemini_batch.records import Status
from gemini_batch.records.references import referred

if TYPE_CHECKING:  # most runs have no chains
    from gemini_batch.records import ResultRow

_STATUSES = list(Status)


class Pictures:
    """The newest row of each parent, in 17 bytes, and the inputs of each child, in 24 to 32.

    Inputs of a call are one number: the sum of the numbers of its pictures; 0 if some are unknown.
    """

    def __init__(self, slot_of: Callable[[str], int | None], slots: int) -> None:
        self._slot_of = slot_of
        self._statuses = bytearray(slots)  # 0 for no row
        self._places = array("Q", bytes(8 * slots))
        self._numbers = array("Q", bytes(8 * slots))  # of the picture; 0 for none
        self._inputs = HashMap64()  # id of a call → its inputs

    def read(self, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Note rows that were read, with their places."""
        for place, row in rows:
            if row["status"] == Status.LATE:
                continue
            images = row["images"]
            self.note(row["id"], row["status"], images and images[0]["sha256"], place)
            inputs = row.get("inputs")
            if isinstance(inputs, list) and any(map(_is_of_call, inputs)):
                self._inputs.put(fingerprint(row["id"]), _sum(filter(_is_of_call, inputs)))
            elif len(self._inputs) and self._inputs.get(call := fingerprint(row["id"])):
                self._inputs.put(call, 0)

    def see(self, row: "ResultRow", place: int) -> None:
        """Note a row that was written at this place."""
        if row.status is not Status.LATE:
            self.note(row.id, row.status, row.images[0].sha256 if row.images else "", place)

    def note(self, call_id: str, status: str, sha256: str, place: int) -> None:
        """Note the newest row of a call; a call that is not a parent is left out."""
        if (slot := self._slot_of(call_id)) is None:
            return
        self._statuses[slot] = _STATUSES.index(Status(status)) + 1
        self._places[slot] = place
        has_picture = status == Status.SUCCEEDED and sha256
        self._numbers[slot] = _number(call_id, sha256) if has_picture else 0

    def status(self, slot: int) -> Status | None:
        """Return the status of the newest row of a parent."""
        return _STATUSES[self._statuses[slot] - 1] if self._statuses[slot] else None

    def place(self, slot: int) -> int:
        """Return where the newest row of a parent begins."""
        return self._places[slot]

    def are_other(self, call: int, slots: Iterable[int]) -> bool:
        """Return whether a call was made of other pictures than the newest ones of its parents.

        `call` is the fingerprint of its id. Unknown pictures are no other ones.
        """
        numbers = [self._numbers[slot] for slot in slots]
        made_of = self._inputs.get(call)
        return bool(made_of) and all(numbers) and made_of != ((sum(numbers) & MASK) or 1)


def _is_of_call(entry: Any) -> bool:
    path = entry.get("path") if isinstance(entry, dict) else None
    return isinstance(path, str) and referred(path) is not None


def _sum(inputs: Iterable[Mapping[str, Any]]) -> int:
    found = [(referred(each["path"]) or "", each.get("sha256")) for each in inputs]
    if not all(isinstance(sha256, str) for _, sha256 in found):
        return 0
    return (sum(_number(*each) for each in found) & MASK) or 1


def _number(call_id: str, sha256: str | None) -> int:
    return fingerprint((call_id, sha256))
