"""The rows of calls that are not done, by their places: the next run reads them first."""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from gemini_batch.catalog.thinking import ANSWERS
from gemini_batch.hashmap import fingerprint
from gemini_batch.output.final_rows import FINAL, FinalRows
from gemini_batch.records import Status

_MAX_ROWS = 100_000


class OpenRows:
    """The places of the newest rows of calls that are not done, and of the last rows."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}  # fingerprint of the id → place
        self._last = deque[int](maxlen=ANSWERS)
        self.is_usable = True

    def note(self, place: int, row: Mapping[str, Any]) -> None:
        """Note a row of `placed_rows`."""
        self._last.append(place)
        if row["status"] in FINAL:
            self._forget([fingerprint(row["id"])])
            return
        if row["status"] != Status.LATE:
            self._places[fingerprint(row["id"])] = place
        # What a batch gave back is counted over several rows; many rows take too much memory.
        if row.get("route") != "interactive" or len(self._places) > _MAX_ROWS:
            self.is_usable = False
            self._places.clear()

    def note_final(self, rows: FinalRows) -> None:
        """Note rows of calls that are done."""
        self._last.extend(rows.places)
        self._forget(rows.calls)

    def _forget(self, calls: Iterable[int]) -> None:
        if self._places:
            for call in calls:
                self._places.pop(call, None)

    @property
    def recent(self) -> int:
        """The place of the first of the last rows."""
        return self._last[0] if self._last else 0

    def before_recent(self) -> list[int]:
        """Return the places of the rows of calls that are not done, before the last rows."""
        return sorted(place for place in self._places.values() if place < self.recent)
