"""Answers whose image could not be fetched: their rows hold the URIs, and have been paid for."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.config.endpoints import service
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.final_rows import FinalRows
from gemini_batch.output.row_lines import row_of
from gemini_batch.output.rows import row_at
from gemini_batch.records import Status

if TYPE_CHECKING:
    from gemini_batch.records import ResultRow


class Unfetched:
    """The newest rows of such answers, at 24 to 32 bytes each."""

    def __init__(self, out: Path, endpoint: str) -> None:
        self._out = out
        self._endpoint = endpoint
        self._places = HashMap64()  # id → where its row begins, plus 1; 0 if a newer row has no URI

    @property
    def is_any(self) -> bool:
        """True if there was one."""
        return len(self._places) > 0

    def note(self, place: int, row: Mapping[str, Any]) -> None:
        """Note a row of `placed_rows`, if it holds URIs or replaces one that does."""
        if row["status"] in (Status.LATE, Status.PRUNED):
            return
        if _is_unfetched(row):
            self._places.put(fingerprint(row["id"]), place + 1)
        elif self.is_any:
            self._forget([fingerprint(row["id"])])

    def note_final(self, rows: FinalRows) -> None:
        """Note rows that hold no URIs."""
        if self.is_any:
            self._forget(rows.calls)

    def _forget(self, calls: Iterable[int]) -> None:
        for call in calls:
            if self._places.get(call):
                self._places.put(call, 0)

    def has(self, call_id: str, *request_sha256s: str) -> bool:
        """Return whether there is such an answer to this very request, by one of its names."""
        return self._row(call_id, request_sha256s) is not None

    def take(self, call_id: str, *request_sha256s: str) -> "ResultRow | None":
        """Return the row of such an answer, once; else None."""
        row = self._row(call_id, request_sha256s)
        if row is not None:
            self._places.put(fingerprint(call_id), 0)
        return row

    def _row(self, call_id: str, request_sha256s: Collection[str]) -> "ResultRow | None":
        place = self._places.get(fingerprint(call_id))
        row = row_at(self._out, place - 1) if place else None
        if row is None or not _is_unfetched(row):
            return None
        if service(row["endpoint"]) != service(self._endpoint):
            return None
        if row["request_sha256"] not in request_sha256s:
            return None
        try:
            return row_of(row)
        except ValueError:  # edited by hand
            return None


def _is_unfetched(row: Mapping[str, Any]) -> bool:
    return bool(row.get("remote_images")) and row["status"] == Status.FAILED
