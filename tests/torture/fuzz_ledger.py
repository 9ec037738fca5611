"""Damaged ledger files: each command that reads one ends with an exit code and words for a person, never a traceback."""

import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from hypothesis import strategies as st

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.limits import Weights
from gemini_batch.quota.shared import SharedLedger, project_of
from gemini_batch.records import Limits
from tests.ledgers import open_storage
from tests.torture.commands import KEY, command

# Nobody listens there, and the deadline comes first: what is tried is the ledger alone.
_NOWHERE = "http://127.0.0.1:9"
_MODEL = "gemini-3-pro-image-preview"
_COLUMNS = {
    "file": ("lost_at_s",),
    "states": ("endpoint", "project", "model", "state", "crc32"),
}
Damage = Callable[[Path], None]


@cache
def _whole() -> bytes:
    """Return a ledger's file in which something is used, paused and closed."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        path, limits = (
            Path(name) / "quota.sqlite",
            Limits(requests_per_min=15, requests_per_day=1500),
        )
        for endpoint in (_NOWHERE, "https://api.test"):
            with SharedLedger(
                open_storage(path), limits, endpoint=endpoint, project=project_of(KEY)
            ) as ledger:
                for _ in range(5):
                    ledger.reserve(_MODEL, Weights(), 2, boot_time_s(), utc_now())
                ledger.pause(
                    _MODEL, boot_time_s() + 5, "the server asked for a pause", boot_time_s()
                )
                ledger.close_day("another", boot_time_s(), utc_now())
        return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _bytes_changed(place: float, new: bytes, removed: int) -> Damage:
    def damage(path: Path) -> None:
        data = path.read_bytes()
        start = int(place * len(data))
        path.write_bytes(data[:start] + new + data[start + removed :])

    return damage


def _cut(place: float) -> Damage:
    return lambda path: _write(path, path.read_bytes()[: int(place * len(_whole()))])


def _zeroed(place: float, size: int) -> Damage:
    return _bytes_changed(place, bytes(size), size)


def _value_changed(table: str, column: str, value: float | str | bytes | None) -> Damage:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            try:
                connection.execute(f"UPDATE {table} SET {column} = ?", (value,))
            except sqlite3.Error:
                connection.execute(f"DELETE FROM {table}")

    return damage


def _statement(text: str) -> Damage:
    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(text)

    return damage


_VALUES: st.SearchStrategy[float | str | bytes | None] = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.binary(max_size=12),
    st.sampled_from(
        [
            "{}",
            "[]",
            "null",
            '{"requests_per_min": "x"}',
            '{"a": 1}',
            '{"requests_per_min": -1}',
            0,
            1e300,
        ]
    ),
)
_PLACE = st.floats(0, 1)
LEDGER: st.SearchStrategy[Damage] = st.one_of(
    st.builds(_bytes_changed, _PLACE, st.binary(max_size=8), st.integers(0, 8)),
    st.builds(_cut, _PLACE),
    st.builds(_zeroed, _PLACE, st.integers(1, 4096)),
    st.sampled_from(
        [(table, column) for table, columns in _COLUMNS.items() for column in columns]
    ).flatmap(lambda place: _VALUES.map(lambda value: _value_changed(*place, value))),
    st.sampled_from(
        [
            "DROP TABLE file",
            "DROP TABLE states",
            "DELETE FROM file",
            "PRAGMA user_version = 99",
            "PRAGMA application_id = 1",
        ]
    ).map(_statement),
    st.binary(max_size=60).map(lambda data: lambda path: _write(path, data)),
)


def check_ledger(damage: Damage) -> None:
    """Whatever the ledger's file has become, it is read, or refused with words, or set aside and told; nothing is guessed at."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setenv("GEMINI_BATCH_STATE_DIR", str(folder / "state"))
        path = folder / "state/quota.sqlite"
        path.parent.mkdir()
        path.write_bytes(_whole())
        damage(path)
        (folder / "jobs.jsonl").write_bytes(b'{"id": "n0", "prompt": "Number n0"}\n')
        jobs = str(folder / "jobs.jsonl")
        run = ["run", jobs, "--base-url", _NOWHERE, "--deadline", "0.02", "--concurrency", "1"]
        for arguments in (
            ["quota"],
            ["quota", "--json"],
            run,
            ["quota"],
            run,
            ["quota", "--reset"],
        ):
            ended = command(*arguments)
            assert ended.is_clean, (arguments, ended)
            assert ended.code in ({5, 8, 3} if arguments is run else {0, 8, 3}), (arguments, ended)
        assert command("quota").code == 0
