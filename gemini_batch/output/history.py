"""Calls of earlier runs: their last status, their missing images, and their cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gemini_batch.config.endpoints import service
from gemini_batch.hashmap import HashMap64, fingerprint, fingerprints
from gemini_batch.output.final_rows import (
    NUMBER_OF,
    REQUEST_MASK,
    STATUS_MASK,
    STATUSES,
    FinalRows,
    request_hash,
)
from gemini_batch.records import Status

# Next to the status: how often in a row a batch gave the call back.
_BATCH_TRY, MAX_BATCH_TRIES = 1 << 4, 3
_ANSWERED = {Status.SUCCEEDED, Status.BLOCKED}


@dataclass(slots=True)
class Cost:
    """The cost of rows.

    Attributes:
        cost_usd: At list price.
        unpriced: Rows whose cost is unknown and not included.
    """

    cost_usd: float = 0.0
    unpriced: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        cost_usd = round(self.cost_usd + other.cost_usd, 6)
        return Cost(cost_usd, self.unpriced + other.unpriced)

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        if row["cost_usd"] is None:
            self.unpriced += 1
        else:
            self.cost_usd = round(self.cost_usd + row["cost_usd"], 6)


class History:
    """The last status of each call, in 24 to 32 bytes a call, from the rows of earlier runs.

    Attributes:
        has_pruned: True if there is a row of a call that was pruned.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        # Id → a hash of request and endpoint, whose last bits are the status, and batch tries.
        self._calls = HashMap64()
        self.has_pruned = False
        for row in rows:
            self.note(0, row)

    def note(self, _place: int, row: Mapping[str, Any]) -> None:
        """Note the next row."""
        status = row["status"]
        if status == Status.LATE:
            return
        if status == Status.PRUNED:
            self.has_pruned = True
            if not self._has_image(row["id"]):
                return  # it is as final as it was
            status = Status.LOST  # its image must be taken from where it is now
        request = request_hash(row["request_sha256"], row["endpoint"]) | NUMBER_OF[status]
        if status == Status.FAILED and row.get("route") == "batch" and not row["remote_images"]:
            request += self._tries_with(row["id"], request) * _BATCH_TRY
        self._calls.put(fingerprint(row["id"]), request)

    def note_final(self, rows: FinalRows) -> None:
        """Note the next rows."""
        self._calls.put_all(rows.calls, rows.requests)

    def __len__(self) -> int:
        return len(self._calls)

    def status(self, call_id: str, request_sha256: str, endpoint: str) -> Status | None:
        """Return how this request ended; None if never sent, edited since, or sent elsewhere.

        All addresses of Google are one place.
        """
        call = self._calls.get(fingerprint(call_id))
        if call is None or call & REQUEST_MASK != request_hash(request_sha256, endpoint):
            return None
        return STATUSES[call & STATUS_MASK]

    def statuses(
        self, call_ids: Sequence[str], request_sha256s: Sequence[str], endpoint: str
    ) -> list[Status | None]:
        """Return what `status` returns for each call."""
        own = service(endpoint)
        calls = self._calls.get_all(fingerprints(call_ids))
        requests = fingerprints((each, own) for each in request_sha256s)
        return [
            None
            if call is None or (call ^ request) & REQUEST_MASK
            else STATUSES[call & STATUS_MASK]
            for call, request in zip(calls, requests, strict=True)
        ]

    def has(self, call_id: str) -> bool:
        """Return whether there is a row of this id, for any request."""
        return self._calls.get(fingerprint(call_id)) is not None

    def rename(self, old: tuple[str, str], new: tuple[str, str], endpoint: str) -> None:
        """Let the newest row of a call be one of another call; both are an id and its request."""
        status = self.status(*old, endpoint)
        if status is not None:
            entry = request_hash(new[1], endpoint) | STATUSES.index(status)
            self._calls.put(fingerprint(new[0]), entry)

    def batch_tries(self, call_id: str) -> int:
        """Return how often in a row a batch gave the call back, at most `MAX_BATCH_TRIES`."""
        call = self._calls.get(fingerprint(call_id)) or 0
        return (call & ~REQUEST_MASK) // _BATCH_TRY

    def give_back(self, call_id: str, request_sha256: str, endpoint: str) -> None:
        """Note that a batch gave a call back in this run."""
        request = request_hash(request_sha256, endpoint) | NUMBER_OF[Status.FAILED]
        tries = self._tries_with(call_id, request)
        self._calls.put(fingerprint(call_id), request + tries * _BATCH_TRY)

    def _tries_with(self, call_id: str, request: int) -> int:
        """Return the batch tries of a call with one more of this request."""
        before = self._calls.get(fingerprint(call_id)) or 0
        is_same = before & REQUEST_MASK == request & REQUEST_MASK
        return min(MAX_BATCH_TRIES, self.batch_tries(call_id) + 1) if is_same else 1

    def _has_image(self, call_id: str) -> bool:
        call = self._calls.get(fingerprint(call_id))
        return call is not None and STATUSES[call & STATUS_MASK] is Status.SUCCEEDED

    def was_answered(self, call_id: str) -> bool:
        """Return whether the newest row of this id, for any request, is a paid answer."""
        call = self._calls.get(fingerprint(call_id))
        return call is not None and STATUSES[call & STATUS_MASK] in _ANSWERED
