"""Data of the simulator's files and results."""

import random

import pytest

from gemini_batch.simulator.batch.spool import Spool


@pytest.mark.parametrize("most_bytes", [10, 3_000_000])
def test_lines(most_bytes: int) -> None:
    """Lines of any length come back with their offsets, from memory and from the disk."""
    rng = random.Random(most_bytes)
    spool = Spool()
    lines = [rng.randbytes(rng.randrange(most_bytes)).replace(b"\n", b"_") for _ in range(8)]
    whole = b"\n".join([*lines, b""])
    for start in range(0, len(whole), 777_777):
        spool.append(whole[start : start + 777_777])
    assert [text for _, text in spool.lines()] == lines
    assert all(spool.read(at, len(text) + 1) == text + b"\n" for at, text in spool.lines())
    assert spool.size_bytes == len(whole)


@pytest.mark.parametrize("size_bytes", [1_000, 1_000_000])
def test_truncate(size_bytes: int) -> None:
    """What is behind a size is forgotten, and what comes then follows what is left."""
    spool = Spool()
    spool.append(b"x" * size_bytes)
    spool.truncate(10)
    spool.append(b"abc")
    assert spool.read(0, size_bytes) == b"x" * 10 + b"abc"
    assert spool.read(13, 5) == b""
