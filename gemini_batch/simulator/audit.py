"""Log of the requests that arrived and the quota that they used, for tests and users."""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from gemini_batch.simulator.paid import PaidAnswers

_MAX_ENTRIES = 10_000
_MAX_PROMPT_LENGTH = 120


@dataclass(slots=True)
class Entry:
    """One request that arrived.

    Attributes:
        number: Position in the order of arrival, from 1.
        arrived_at: Time at which its head had arrived, UTC.
        offset_s: The same time in seconds since the start, on the monotonic clock.
        project: A fingerprint of its key; the key itself is not stored.
        model: As in the URL.
        prompt: The beginning of its prompt.
        http_status: Status of the answer; None before it is sent.
        error: The answer's message if it is an error.
        faults: The names of the faults that were applied.
        prompt_tokens: Its input tokens.
        images: Images sent back, without drafts.
        bytes_in: Size of its body.
        bytes_out: Size of the answer's body.
        latency_s: From arrival to the end of the answer.
        abandoned: Whether the client disconnected before the end.
    """

    number: int
    arrived_at: datetime
    offset_s: float
    project: str
    model: str
    prompt: str = ""
    http_status: int | None = None
    error: str = ""
    faults: str = ""
    prompt_tokens: int = 0
    images: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    latency_s: float | None = None
    abandoned: bool = False


class WorstWindow:
    """The largest number of arrivals in any `span_s` seconds, updated with each arrival."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._recent: deque[float] = deque()
        self.count = 0
        self.began_s = 0.0

    def add(self, offset_s: float) -> None:
        """Count one arrival; `offset_s` never decreases."""
        while self._recent and self._recent[0] <= offset_s - self._span_s:
            self._recent.popleft()
        self._recent.append(offset_s)  # an arrival counts itself, even in the shortest span
        if len(self._recent) > self.count:
            self.count, self.began_s = len(self._recent), self._recent[0]


@dataclass(slots=True)
class TrafficTotals:
    """Totals of one project and model."""

    worst: WorstWindow
    requests: int = 0
    images: int = 0
    prompt_tokens: int = 0
    abandoned: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


class Audit:
    """Every request that arrived: the newest entries, and totals of all."""

    def __init__(self, *, minute_s: float, limits: Mapping[str, float | None]) -> None:
        self.entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)
        self.followed_redirects = 0
        self.paid = PaidAnswers()
        self.operations: Counter[str] = Counter()
        self._minute_s = minute_s
        self._limits = dict(limits)
        self._arrived = 0
        self._totals: dict[tuple[str, str], TrafficTotals] = {}
        self._statuses: dict[tuple[str, str], Counter[str]] = {}
        self._faults: Counter[str] = Counter()

    def record_arrival(self, key: str, model: str, arrived_at: datetime, offset_s: float) -> Entry:
        """Count a request whose head has arrived; return its entry, to be filled in."""
        self._arrived += 1
        entry = Entry(self._arrived, arrived_at, round(offset_s, 6), fingerprint(key), model)
        self.entries.append(entry)
        totals = self._totals.setdefault(
            (entry.project, model), TrafficTotals(WorstWindow(self._minute_s))
        )
        totals.worst.add(offset_s)
        totals.requests += 1
        totals.in_flight += 1
        totals.most_in_flight = max(totals.most_in_flight, totals.in_flight)
        return entry

    def record_end(self, entry: Entry, offset_s: float) -> None:
        """Count the end of a request."""
        entry.latency_s = round(offset_s - entry.offset_s, 6)
        totals = self._totals[entry.project, entry.model]
        totals.in_flight -= 1
        totals.images += entry.images
        totals.prompt_tokens += entry.prompt_tokens
        totals.abandoned += entry.abandoned
        status = "none" if entry.http_status is None else str(entry.http_status)
        self._statuses.setdefault((entry.project, entry.model), Counter())[status] += 1
        if entry.faults:
            self._faults[entry.faults] += 1

    def count_operation(self, method: str) -> None:
        """Count a request for files or batches, by the API's method."""
        self.operations[method] += 1

    def count_fault(self, name: str) -> None:
        """Count a fault of files and batches."""
        self._faults[name] += 1

    def worst_minute(self, model: str | None = None) -> int:
        """Return the largest number of requests of one project in any minute.

        Args:
            model: Count only requests to this model; None takes the maximum of all models.
        """
        counts = (
            totals.worst.count
            for (_, name), totals in self._totals.items()
            if model in (None, name)
        )
        return max(counts, default=0)

    def report(
        self, now: datetime, used: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]]
    ) -> dict[str, Any]:
        """Return everything as JSON.

        Args:
            now: The server's clock.
            used: Used amount and limit of each kind, by project and model.
        """
        models = []
        for (project, model), totals in self._totals.items():
            worst = totals.worst
            models.append(
                {
                    "project": project,
                    "model": model,
                    "requests": totals.requests,
                    "images": totals.images,
                    "prompt_tokens": totals.prompt_tokens,
                    "abandoned": totals.abandoned,
                    "most_in_flight": totals.most_in_flight,
                    "by_status": dict(self._statuses.get((project, model), {})),
                    "worst_minute": {
                        "requests": worst.count,
                        "limit": self._limits.get("requests_per_min"),
                        "began_s": round(worst.began_s, 6),
                    },
                    "used": {
                        kind: {"used": round(amount, 6), "limit": limit}
                        for kind, (amount, limit) in used.get((project, model), {}).items()
                    },
                }
            )
        return {
            "now": now.isoformat(),
            "minute_s": self._minute_s,
            "limits": self._limits,
            "requests": self._arrived,
            "followed_redirects": self.followed_redirects,
            "faults": dict(self._faults),
            "models": models,
            "operations": dict(self.operations),
            "paid": self.paid.report(),
            "entries": [
                asdict(entry) | {"arrived_at": entry.arrived_at.isoformat()}
                for entry in self.entries
            ],
        }


def fingerprint(key: str) -> str:
    """Return a short hash that identifies a key without revealing it."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8] if key else "no key"


def shown_prompt(prompt: str) -> str:
    """Return the beginning of a prompt on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= _MAX_PROMPT_LENGTH else line[: _MAX_PROMPT_LENGTH - 1] + "…"
