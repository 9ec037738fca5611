"""Ledger files of the first version (until 2026-11), read once and then rewritten."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import orjson

from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.quota.storage.sqlite_errors import DamagedError

_QUOTAS = "SELECT endpoint, project, model, era, used_at, limits, state, crc32 FROM quotas"


def states(connection: Connection, path: Path) -> Iterator[tuple[QuotaKey, dict[str, Any]]]:
    """Yield all states, as `SharedQuota.dump` returns them now.

    Raises:
        DamagedError: The file is damaged.
    """
    clock = _clock(connection, path)["belief"] or {}
    for *key, era, used_at, limits, state, crc32 in connection.execute(_QUOTAS):
        quota = _parsed(state, crc32, path)
        if not (all(isinstance(each, str) for each in key) and isinstance(used_at, float)):
            raise DamagedError(f"{path}: is damaged: a row has values of another type")
        # The boot of an earlier era is unknown: any other than this one moves the windows.
        is_current, last_s = era == clock.get("era"), quota["last"] * quota["slot_us"] / 1e6
        yield (
            QuotaKey(*key),
            {
                "server_id": clock["boot_id"] if is_current else "another boot",
                "seen_s": clock["seen_s"] if is_current else last_s,
                "used_at_s": used_at,
                "limits": _limits(limits, path),
                "quota": quota,
            },
        )


def lost_at_s(connection: Connection, path: Path) -> float | None:
    """Return when the file replaced a damaged one, in seconds since 1970; None if it did not."""
    moment = _clock(connection, path)["rebuilt_at"]
    return None if moment is None else float(moment)


def _clock(connection: Connection, path: Path) -> dict[str, Any]:
    rows = connection.execute("SELECT state, crc32 FROM clock").fetchall()
    if len(rows) != 1:
        raise DamagedError(f"{path}: is damaged: it has no clock")
    state, crc32 = rows[0]
    return _parsed(state, crc32, path)


def _limits(text: Any, path: Path) -> dict[str, Any]:
    try:
        values = orjson.loads(text)
        if all(value is None or value > 0 for value in values.values()):
            return dict(values)
    except (TypeError, ValueError, AttributeError):
        pass
    raise DamagedError(f"{path}: is damaged: its limits are not valid")


def _parsed(state: Any, crc32: Any, path: Path) -> dict[str, Any]:
    if not isinstance(state, str) or zlib.crc32(state.encode()) != crc32:
        raise DamagedError(f"{path}: is damaged: its checksum is wrong")
    return dict(orjson.loads(state))
