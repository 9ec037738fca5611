"""The ledger that processes and restarts share: an SQLite file in the person's state folder.

::

    with SqliteLedger(state_path(), limits, endpoint=endpoint, project=project_of(api_key, scope)) as ledger:
        for notice in ledger.notices: …            # a damaged file was set aside: the person has to know
        gate = Gate(ledger, limits, clock, …)      # clock.steady_s is boot_time_s

All of it blocks: build it, use it and close it off the event loop. Every method may raise `StorageError`; then nothing was
granted and nothing was changed.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Self

from gemini_batch.clock import boot_id, boot_time_s
from gemini_batch.quota.limits import GUARD_S, Weights
from gemini_batch.quota.model_quota import ZONE, Grant, Granted, ModelQuota, ReserveResult, Used
from gemini_batch.quota.storage.faults import LOCKED_S
from gemini_batch.quota.storage.rows import Boot, Rows
from gemini_batch.quota.storage.statefile import StateFile
from gemini_batch.records import Limits

# A commit that takes less fits into what a grant holds; after a slower one, grants are asked for so much later.
_SLOW_COMMIT_S = 0.1


def project_of(api_key: str, scope: str | None = None) -> str:
    """Return the name of a project's quota: `scope` if a person gave one, else a fingerprint that does not tell the key."""
    if scope:
        return scope
    return (
        "key-" + hashlib.sha256(b"gemini_batch quota project\0" + api_key.encode()).hexdigest()[:12]
    )


@dataclass(slots=True)
class _Turn:
    """One model's quota within a transaction, at the moment when its turn came.

    Attributes:
        quota: To be asked and changed.
        is_new: Nothing was known of it.
        now_s: The steady clock.
        utc: The wall clock.
        keep: Whether to write the quota.
    """

    quota: ModelQuota
    is_new: bool
    now_s: float
    utc: datetime
    keep: bool = True


class SqliteLedger:
    """What was used of each model, for all processes of this machine and of this project; threads may share it.

    The same promises as `MemoryLedger`, and the same methods. A grant is told of only when it is on the disk. Time that passes
    between the question and the decision, for a thread or the lock, is added to `now_s` and `utc`.

    Attributes:
        limits: Of each model alike.
        notices: Sentences for the person about what was found when the file was opened.
    """

    blocks: ClassVar[bool] = True

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        endpoint: str,
        project: str,
        guard_s: float = GUARD_S,
        zone: str = ZONE,
        steady_s: Callable[[], float] = boot_time_s,
        boot: str | None = None,
        locked_s: float = LOCKED_S,
    ) -> None:
        """Open the file, or make it.

        Args:
            path: Of the file: `statefile.state_path()`.
            limits: Of each model alike.
            endpoint: Whose quota, as rows carry it.
            project: And of which project: `project_of(…)`.
            guard_s: How far delays between leave and arrival spread, in seconds.
            zone: Whose midnight begins a day, an IANA name.
            steady_s: The clock of every `now_s`; it counts from the machine's boot, so that all processes read the same.
            boot: Names the boot of the machine; None asks the system.
            locked_s: How long to wait for another process that holds the file.

        Raises:
            StorageError: The file can't be read or written, or another process holds it.
            ConfigError: A newer version wrote it.
        """
        self.limits = limits
        self._path = path
        self._owner = (endpoint, project)
        self._guard_s = guard_s
        self._zone = zone
        self._steady_s = steady_s
        self._boot = boot_id() if boot is None else boot
        self._commit_s = 0.0  # what a commit takes on this disk
        self._settles_tokens = limits.tokens_per_min is not None
        self._settles_usd = limits.usd_per_10min is not None or limits.usd_per_day is not None
        self._file = StateFile(path, locked_s=locked_s)
        self.notices = (self._file.notice,) if self._file.notice else ()

    def __enter__(self) -> Self:
        """Return itself, open."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # --- what the gate asks -------------------------------------------------------------------------------------------

    def reserve(
        self, model: str, weights: Weights, permits: int, now_s: float, utc: datetime
    ) -> ReserveResult:
        """Reserve the earliest slot for up to `permits` equal requests, one at least.

        Raises:
            ValueError: One request is larger than a limit.
        """
        lead_s = self._commit_s if self._commit_s > _SLOW_COMMIT_S else 0.0
        with self._turn(model, now_s, utc) as turn:
            decided_s = self._steady_s()
            lead = timedelta(seconds=lead_s)
            verdict = turn.quota.reserve(weights, permits, turn.now_s + lead_s, turn.utc + lead)
            turn.keep = turn.is_new or isinstance(verdict, Granted)
        self._commit_s = max(self._steady_s() - decided_s, self._commit_s / 2)
        return verdict

    def holds(self, model: str, grant: Grant, now_s: float) -> bool:
        """Return whether a grant, once slept for, may still be used: not late, not paused, its day not closed."""
        with self._turn(model, writes=False) as turn:
            return turn.quota.holds(grant, max(now_s, self._steady_s()))

    def settle(
        self, model: str, grant: Grant, *, tokens: int | None = None, usd_micros: int | None = None
    ) -> None:
        """Put what a call really used in place of its estimate; None leaves the estimate, and so does a run without such a limit."""
        tokens = tokens if self._settles_tokens and tokens != grant.weights.tokens else None
        usd_micros = (
            usd_micros if self._settles_usd and usd_micros != grant.weights.usd_micros else None
        )
        if tokens is None and usd_micros is None:
            return
        with self._turn(model) as turn:
            turn.quota.settle(grant, tokens=tokens, usd_micros=usd_micros)
            turn.keep = not turn.is_new

    def give_back(self, model: str, grant: Grant) -> None:
        """Return a grant whose bytes never left to its day."""
        with self._turn(model) as turn:
            turn.quota.give_back(grant)
            turn.keep = not turn.is_new

    def pause(
        self, model: str, until_s: float, why: str, now_s: float, *, overrun: bool = False
    ) -> None:
        """Send nothing of a model before `until_s`; `overrun` after a 429 of the minute widens the guard."""
        with self._turn(model) as turn:
            turn.quota.pause(until_s, why, now_s, overrun=overrun)

    def close_day(
        self, model: str, now_s: float, utc: datetime, grant: Grant | None = None
    ) -> None:
        """Close the date of `grant`, or else of now, for a model."""
        with self._turn(model, now_s, utc) as turn:
            turn.quota.close_day(turn.utc, grant)

    # --- for people ---------------------------------------------------------------------------------------------------

    def used(self, model: str, now_s: float, utc: datetime) -> tuple[Used, ...]:
        """Return what counts against each limit of a model now."""
        with self._turn(model, now_s, utc, writes=False) as turn:
            return turn.quota.used(turn.now_s, turn.utc)

    def day_left(self, model: str, weights: Weights, now_s: float, utc: datetime) -> int | None:
        """Return how many calls of these weights today still takes, None if any number."""
        with self._turn(model, now_s, utc, writes=False) as turn:
            return turn.quota.day_left(weights, turn.utc)

    # --- one transaction ----------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(
        self,
        model: str,
        now_s: float | None = None,
        utc: datetime | None = None,
        *,
        writes: bool = True,
    ) -> Iterator[_Turn]:
        """Load a model's quota, and write what became of it; without a time, it stays on the clock of its row."""
        with self._file.transaction(writes=writes) as connection:
            rows = Rows(connection, self._path)
            has_time = now_s is not None
            late_s = 0.0 if now_s is None else max(0.0, self._steady_s() - now_s)
            now_s = self._steady_s() if now_s is None else now_s + late_s
            utc = datetime.now(UTC) if utc is None else utc + timedelta(seconds=late_s)
            boot = rows.boot or Boot(self._boot, 0, now_s)
            if has_time:
                boot = boot.at(self._boot, now_s)
            quota = ModelQuota(self.limits, guard_s=self._guard_s, zone=self._zone)
            key = (*self._owner, model)
            turn = _Turn(quota, rows.load(key, quota, boot, now_s, utc), now_s, utc)
            yield turn
            if writes and turn.keep:
                rows.save(key, quota, boot.era, self.limits, turn.utc)
                rows.forget(turn.utc)
                rows.note_boot(boot)
