"""What arrived, when, and how near it came to the quota: the simulator's own count, for tests and for people."""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

_KEPT_ENTRIES = 10_000
_SHOWN_PROMPT = 120


@dataclass(slots=True)
class Entry:
    """One request that arrived.

    Attributes:
        number: From 1, in the order of arrival.
        arrived_at: When its head had arrived, UTC.
        offset_s: The same in seconds since the start, on the steady clock.
        project: A fingerprint of its key; the key itself is kept nowhere.
        model: As in the URL.
        prompt: The beginning of it.
        http_status: Of the answer; None while there is none.
        error: The answer's message, if it says no.
        faults: The names of the faults that it got.
        prompt_tokens: What it counts as.
        images: Pictures sent back, drafts not counted.
        bytes_in: Size of its body.
        bytes_out: Size of the answer's body.
        latency_s: From arrival to the end of the answer.
        abandoned: Whether the client went away first.
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
    """The largest number of arrivals in any `span_s` seconds, kept while they come."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._recent: deque[float] = deque()
        self.count = 0
        self.began_s = 0.0

    def add(self, offset_s: float) -> None:
        """Count one arrival; `offset_s` never decreases."""
        while self._recent and self._recent[0] <= offset_s - self._span_s:
            self._recent.popleft()
        self._recent.append(offset_s)  # counts itself, however short the span
        if len(self._recent) > self.count:
            self.count, self.began_s = len(self._recent), self._recent[0]


@dataclass(slots=True)
class Tally:
    """The sums of one project and model."""

    worst: WorstWindow
    requests: int = 0
    images: int = 0
    prompt_tokens: int = 0
    abandoned: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


class Audit:
    """Every request that arrived: the newest ones whole, all of them in sums."""

    def __init__(self, *, minute_s: float, limits: Mapping[str, float | None]) -> None:
        self.entries: deque[Entry] = deque(maxlen=_KEPT_ENTRIES)
        self.followed_redirects = 0
        self._minute_s = minute_s
        self._limits = dict(limits)
        self._arrived = 0
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._statuses: dict[tuple[str, str], Counter[str]] = {}
        self._faults: Counter[str] = Counter()

    def arrive(self, key: str, model: str, arrived_at: datetime, offset_s: float) -> Entry:
        """Count a request whose head has arrived, and return its entry to fill."""
        self._arrived += 1
        entry = Entry(self._arrived, arrived_at, round(offset_s, 6), fingerprint(key), model)
        self.entries.append(entry)
        tally = self._tallies.setdefault((entry.project, model), Tally(WorstWindow(self._minute_s)))
        tally.worst.add(offset_s)
        tally.requests += 1
        tally.in_flight += 1
        tally.most_in_flight = max(tally.most_in_flight, tally.in_flight)
        return entry

    def leave(self, entry: Entry, offset_s: float) -> None:
        """Count how a request ended."""
        entry.latency_s = round(offset_s - entry.offset_s, 6)
        tally = self._tallies[entry.project, entry.model]
        tally.in_flight -= 1
        tally.images += entry.images
        tally.prompt_tokens += entry.prompt_tokens
        tally.abandoned += entry.abandoned
        status = "none" if entry.http_status is None else str(entry.http_status)
        self._statuses.setdefault((entry.project, entry.model), Counter())[status] += 1
        if entry.faults:
            self._faults[entry.faults] += 1

    def worst_minute(self, model: str | None = None) -> int:
        """Return the most requests of one project in any minute, to `model` or to any."""
        counts = (
            tally.worst.count for (_, name), tally in self._tallies.items() if model in (None, name)
        )
        return max(counts, default=0)

    def report(
        self, now: datetime, used: Mapping[tuple[str, str], Mapping[str, tuple[float, float]]]
    ) -> dict[str, Any]:
        """Return everything as JSON.

        Args:
            now: The server's clock.
            used: What is used of each limit, by project and model.
        """
        models = []
        for (project, model), tally in self._tallies.items():
            worst = tally.worst
            models.append(
                {
                    "project": project,
                    "model": model,
                    "requests": tally.requests,
                    "images": tally.images,
                    "prompt_tokens": tally.prompt_tokens,
                    "abandoned": tally.abandoned,
                    "most_in_flight": tally.most_in_flight,
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
            "entries": [
                asdict(entry) | {"arrived_at": entry.arrived_at.isoformat()}
                for entry in self.entries
            ],
        }


def fingerprint(key: str) -> str:
    """Return what stands for a key where people can read it."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()[:8] if key else "no key"


def shown_prompt(prompt: str) -> str:
    """Return the beginning of a prompt, on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= _SHOWN_PROMPT else line[: _SHOWN_PROMPT - 1] + "…"
