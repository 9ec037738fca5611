"""What the ledger's file holds: what is believed of the time, and one quota an endpoint, project and model."""

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
from gemini_batch.quota.wall import Belief
from gemini_batch.records import Limits

Key: TypeAlias = tuple[str, str, str]
"""Endpoint, project and model."""

# The belief in the time is written down when it changed by so much, or is so old, in seconds.
_CHANGED_S, _OLD_S = 0.25, 10.0
# No window and no day reaches back so far: a quota that was not used since then is forgotten.
_KEPT_DAYS = 8

_SELECT = "SELECT era, state, crc32 FROM quotas WHERE endpoint = ? AND project = ? AND model = ?"
_UPSERT = """
INSERT INTO quotas (endpoint, project, model, era, used_at, limits, state, crc32) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (endpoint, project, model) DO UPDATE SET era = excluded.era, used_at = excluded.used_at, limits = excluded.limits,
    state = excluded.state, crc32 = excluded.crc32
"""


class Rows:
    """The rows, within one transaction.

    Attributes:
        path: Of the file, for messages.
        belief: What was believed of the time; None before anybody looked.
        rebuilt_at: When this file took the place of a damaged one, UTC, or None.
    """

    def __init__(self, connection: Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        state, crc32 = connection.execute("SELECT state, crc32 FROM clock").fetchone()
        clock = parse(state, crc32, path)
        self.belief = None if clock["belief"] is None else Belief(**clock["belief"])
        self.rebuilt_at = (
            None
            if clock["rebuilt_at"] is None
            else datetime.fromtimestamp(clock["rebuilt_at"], UTC)
        )

    def load(
        self, key: Key, quota: ModelQuota, belief: Belief | None, now_s: float
    ) -> tuple[int, bool]:
        """Load a quota; return the era that it is in then, and whether it is new.

        What was written in another era than that of `belief` is moved to this clock; without a belief it stays as it is. In a
        file that was rebuilt, a new quota was full at that moment.
        """
        row = self._connection.execute(_SELECT, key).fetchone()
        known = belief or self.belief
        if row is None:
            if self.rebuilt_at is not None:
                ago_s = (belief.utc(now_s) - self.rebuilt_at).total_seconds() if belief else 0.0
                quota.assume_full(now_s - max(0.0, ago_s), self.rebuilt_at)
            return known.era if known else 0, True
        era, state, crc32 = row
        quota.load(parse(state, crc32, self.path))
        if belief is None or era == belief.era:
            return int(era), False
        quota.restart(now_s)
        return belief.era, False

    def save(self, key: Key, quota: ModelQuota, era: int, limits: Limits, utc: datetime) -> None:
        """Write a quota, with the limits that it was used by."""
        text, moment = orjson.dumps(asdict(limits)).decode(), utc.timestamp()
        self._connection.execute(_UPSERT, (*key, era, moment, text, *packed(quota.dump())))

    def forget(self, utc: datetime) -> None:
        """Forget the quotas that nobody used for long."""
        horizon = (utc - timedelta(days=_KEPT_DAYS)).timestamp()
        self._connection.execute("DELETE FROM quotas WHERE used_at < ?", (horizon,))

    def note_belief(self, belief: Belief) -> None:
        """Write down what is believed of the time, if that is news."""
        before = self.belief
        if (
            before is None
            or replace(belief, seen_s=before.seen_s, offset_s=before.offset_s) != before
            or abs(belief.offset_s - before.offset_s) > _CHANGED_S
            or belief.seen_s > before.seen_s + _OLD_S
        ):
            rebuilt_at = self.rebuilt_at and self.rebuilt_at.timestamp()
            clock = packed({"belief": asdict(belief), "rebuilt_at": rebuilt_at})
            self._connection.execute("UPDATE clock SET state = ?, crc32 = ?", clock)
            self.belief = belief


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
        at: The moment of all this, as the ledger believes the time to be, UTC.
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
        belief = rows.belief and rows.belief.at(boot_id() if boot is None else boot, now_s, utc)
        is_certain = belief is not None and not belief.rivals(now_s, utc)
        return list(
            _standings(
                connection,
                rows,
                belief,
                now_s,
                belief.utc(now_s) if belief else utc,
                is_certain=is_certain,
            )
        )


def _standings(
    connection: Connection,
    rows: Rows,
    belief: Belief | None,
    now_s: float,
    utc: datetime,
    *,
    is_certain: bool,
) -> Iterator[QuotaStatus]:
    found = connection.execute(
        "SELECT endpoint, project, model, limits FROM quotas ORDER BY 1, 2, 3"
    ).fetchall()
    for endpoint, project, model, limits in found:
        quota = ModelQuota(parse_limits(limits, rows.path))
        rows.load((endpoint, project, model), quota, belief, now_s)
        if is_certain:
            quota.rewind(now_s, utc)
        used, paused = quota.used(now_s, utc), quota.pause_left(now_s)
        yield QuotaStatus(endpoint, project, model, used, *paused, quota.is_day_closed(utc), utc)
