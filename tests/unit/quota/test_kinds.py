"""The ledger's files as others may leave them: of another kind, of another user, open to all."""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemini_batch.errors import StorageError
from gemini_batch.quota.storage import sqlite_file
from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.quota.storage.sqlite import SqliteStorage

KEY = QuotaKey("endpoint", "project", "model")


def a_pipe(path: Path) -> None:
    """Make a named pipe."""
    os.mkfifo(path)


def a_device(path: Path) -> None:
    """Make a link to a device without end."""
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    """Make a folder."""
    path.mkdir()


@pytest.mark.parametrize("make", [a_pipe, a_device, a_folder])
@pytest.mark.parametrize("suffix", ["", "-journal", "-wal", ".lock", ".new"])
@pytest.mark.parametrize("method", ["open", "scan", "clear"])
def test_what_is_no_regular_file_is_named(
    tmp_path: Path, make: Callable[[Path], None], suffix: str, method: str
) -> None:
    """A pipe, a device or a folder in the place of the ledger or of a file beside it is waited for, and read, by nothing."""
    path = tmp_path / "quota.sqlite"
    if suffix:
        storage = SqliteStorage(path)
        storage.open()
        storage.close()
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    make(path.with_name(path.name + suffix))
    with pytest.raises(StorageError, match=rf"quota\.sqlite{suffix}: is .*; move it away"):
        getattr(SqliteStorage(path), method)()


def test_the_files_are_private(tmp_path: Path) -> None:
    """The ledger and what is beside it are for its user only; a file of an earlier version becomes so."""
    path, before = tmp_path / "quota.sqlite", os.umask(0)
    try:
        for _ in range(2):
            storage = SqliteStorage(path)
            storage.open()
            storage.transact([KEY], lambda _states, _now, _id: (None, {}), "ask")
            storage.close()
            for file in tmp_path.iterdir():
                assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
            path.chmod(0o644)
    finally:
        os.umask(before)


def test_a_copy_of_a_damaged_file_is_bounded_and_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a damaged file of any size a bounded part is kept aside."""
    monkeypatch.setattr(sqlite_file, "_MAX_COPIED_BYTES", 3_000)
    path = tmp_path / "quota.sqlite"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    aside = sqlite_file.kept_aside(path)
    assert aside.stat().st_size == 3_000
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_file_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that neither this user nor the owner of its folder made is not trusted; one of the folder's owner is."""
    path = tmp_path / "quota.sqlite"
    storage = SqliteStorage(path)
    storage.open()
    storage.close()
    real = Path.stat

    def owned(file: int, folder: int) -> None:
        def found(self: Path, **options: bool) -> object:
            status = real(self, **options)
            uid = folder if self == tmp_path else file
            return SimpleNamespace(st_mode=status.st_mode, st_uid=uid)

        monkeypatch.setattr(Path, "stat", found)

    owned(file=4_711, folder=os.geteuid())
    with pytest.raises(StorageError, match="belongs to another user"):
        sqlite_file.check_kind(path)
    owned(file=4_711, folder=4_711)
    sqlite_file.check_kind(path)


def test_a_folder_that_can_not_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that refuses to sync a folder has a ledger all the same."""
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    storage = SqliteStorage(tmp_path / "quota.sqlite")
    storage.open()
    storage.close()
