"""Atomic and durable writing."""

import os
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.output.files import new_file, write_atomically


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_after_its_content_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> None:
    """A power cut leaves the earlier or the new content; without `durable` nothing is synced."""
    path, steps = tmp_path / "summary.json", list[str]()
    path.write_bytes(b"earlier")

    def fsync(descriptor: int) -> None:
        steps.append(f"fsync {os.fstat(descriptor).st_size}")

    rename = os.rename

    def renaming(*arguments: Any, **options: Any) -> None:
        steps.append("rename")
        rename(*arguments, **options)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", renaming)
    write_atomically(path, b"later", durable=durable)

    assert steps == (["fsync 5", "rename"] if durable else ["rename"])
    assert path.read_bytes() == b"later"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    """If the block raises, the earlier file stays, and the temporary file is removed."""
    path, via = tmp_path / "gallery.html", tmp_path / "private"
    path.write_bytes(b"earlier")

    def write_half() -> None:
        with new_file(path, durable=True, via=via) as file:
            file.write(b"half")
            file.flush()
            assert via.read_bytes() == b"half"
            raise OSError(28, "no space")

    with pytest.raises(OSError, match="no space"):
        write_half()

    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
