"""What the ledger's file holds: which boot its times count from, and one quota an endpoint, project and model."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import TypeAlias

import orjson

from gemini_batch.clock import boot_id
from gemini_batch.quota.model_quota import ModelQuota, Used
from gemini_batch.quota.storage.faults import sentences
from gemini_batch.quota.storage.statefile import check, connect, packed, parse, parse_limits
from gemini_batch.records import Limits

Key: TypeAlias = tuple[str, str, str]
"""Endpoint, project and model."""

# Two processes read their clocks in another order than they come to the file. A clock that went back by more began again.
_BACK_S = 60.0
# The moment that was seen last is written down when it is so old, in seconds.
_OLD_S = 10.0
# No window and no day reaches back so far: a quota that was not used since then is forgotten.
_KEPT_DAYS = 8

_SELECT = "SELECT era, state, crc32 FROM quotas WHERE endpoint = ? AND project = ? AND model = ?"
_UPSERT = """
INSERT INTO quotas (endpoint, project, model, era, used_at, limits, state, crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (endpoint, project, model) DO UPDATE SET era = excluded.era, used_at = excluded.used_at, limits = excluded.limits,
    state = excluded.state, crc32 = excluded.crc32
"""


@dataclass(frozen=True, slots=True)
class Boot:
    """One run of the steady clock.

    Attributes:
        boot_id: Of the boot that it counts from.
        era: Counts the beginnings of the clock: what was written in another era is of another clock.
        seen_s: The latest moment that was seen.
    """

    boot_id: str
    era: int
    seen_s: float

    def at(self, boot_id: str, now_s: float) -> "Boot":
        """Return the run of the clock at a moment: this one, or a new one after a reboot."""
        if boot_id != self.boot_id or now_s < self.seen_s - _BACK_S:
            return Boot(boot_id, self.era + 1, now_s)
        return replace(self, seen_s=max(self.seen_s, now_s))


class Rows:
    """The rows, within one transaction.

    Attributes:
        path: Of the file, for messages.
        boot: Of the last write; None in a new file.
        rebuilt_at: When this file took the place of a damaged one, UTC, or None.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        state, crc32 = connection.execute("SELECT state, crc32 FROM clock").fetchone()
        clock = parse(state, crc32, path)
        boot = clock.get("boot") or clock.get("belief")  # as an earlier version wrote it
        self.boot = boot and Boot(boot["boot_id"], boot["era"], boot["seen_s"])
        self.rebuilt_at = (
            None
            if clock["rebuilt_at"] is None
            else datetime.fromtimestamp(clock["rebuilt_at"], UTC)
        )

    def load(self, key: Key, quota: ModelQuota, boot: Boot, now_s: float, utc: datetime) -> bool:
        """Load a quota; return whether it is new.

        What was written in another era is moved to this clock. In a file that was rebuilt, a new quota was full at that moment.
        """
        row = self._connection.execute(_SELECT, key).fetchone()
        if row is None:
            if self.rebuilt_at is not None:
                ago_s = (utc - self.rebuilt_at).total_seconds()
                quota.assume_full(now_s - max(0.0, ago_s), self.rebuilt_at)
            return True
        era, state, crc32 = row
        quota.load(parse(state, crc32, self.path))
        if era != boot.era:
            quota.restart(now_s)
        return False

    def save(self, key: Key, quota: ModelQuota, era: int, limits: Limits, utc: datetime) -> None:
        """Write a quota, with the limits that it was used by."""
        text, moment = orjson.dumps(asdict(limits)).decode(), utc.timestamp()
        self._connection.execute(_UPSERT, (*key, era, moment, text, *packed(quota.dump())))

    def forget(self, utc: datetime) -> None:
        """Forget the quotas that nobody used for long."""
        horizon = (utc - timedelta(days=_KEPT_DAYS)).timestamp()
        self._connection.execute("DELETE FROM quotas WHERE used_at < ?", (horizon,))

    def note_boot(self, boot: Boot) -> None:
        """Write down the run of the clock, if that is news."""
        before = self.boot
        if before is None or boot.era != before.era or boot.seen_s > before.seen_s + _OLD_S:
            rebuilt_at = self.rebuilt_at and self.rebuilt_at.timestamp()
            clock = packed({"boot": asdict(boot), "rebuilt_at": rebuilt_at})
            self._connection.execute("UPDATE clock SET state = ?, crc32 = ?", clock)
            self.boot = boot


# --- for people -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """What is used of one model's quota.

    Attributes:
        endpoint: Whose quota.
        project: The name or the fingerprint of the project.
        model: Of which model.
        used: What counts against each limit of the last run, those that are no limit included.
        paused_s: For how many seconds nothing is sent.
        paused_why: A phrase for a person.
        is_day_closed: The server said that today's quota is used up.
        at: The moment of all this, UTC.
    """

    endpoint: str
    project: str
    model: str
    used: tuple[Used, ...]
    paused_s: float
    paused_why: str
    is_day_closed: bool
    at: datetime


def standings(
    path: Path, now_s: float, utc: datetime, *, boot: str | None = None
) -> list[QuotaStatus]:
    """Read what a ledger's file holds, in the order of endpoint, project and model; nothing is changed, no file is made.

    Args:
        path: Of the file; none is `[]`.
        now_s: The steady clock, `boot_time_s()`.
        utc: The wall clock, of the same moment.
        boot: Names the boot of the machine; None asks the system.

    Raises:
        StorageError: It can't be read, or is damaged.
        ConfigError: A newer version wrote it.
    """
    if not path.exists():
        return []
    with sentences(path), closing(connect(path)) as connection:
        connection.execute("BEGIN")
        check(connection, path)
        rows = Rows(connection, path)
        boot_now = boot_id() if boot is None else boot
        clock = (rows.boot or Boot(boot_now, 0, now_s)).at(boot_now, now_s)
        return list(_standings(connection, rows, clock, now_s, utc))


def _standings(
    connection: Connection, rows: Rows, boot: Boot, now_s: float, utc: datetime
) -> Iterator[QuotaStatus]:
    found = connection.execute(
        "SELECT endpoint, project, model, limits FROM quotas ORDER BY 1, 2, 3"
    ).fetchall()
    for endpoint, project, model, limits in found:
        quota = ModelQuota(parse_limits(limits, rows.path))
        rows.load((endpoint, project, model), quota, boot, now_s, utc)
        used, paused = quota.used(now_s, utc), quota.pause_left(now_s)
        yield QuotaStatus(endpoint, project, model, used, *paused, quota.is_day_closed(utc), utc)
