import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from gemini_batch.clock import boot_time_s

PER_MIN, MINUTE_S = 64, 1.0


def start(
    folder: Path,
    racer: int,
    stack: ExitStack,
    *limits: float,
) -> subprocess.Popen[bytes]:
    """Start a racer, or start it again; limits are requests a minute, its seconds, and calls."""
    command = [
        sys.executable,
        "-m",
        "tests.loopback.racer",
        folder / "quota.sqlite",
        folder / f"{racer}.log",
    ]
    process = subprocess.Popen([*map(str, command), *map(str, limits or (PER_MIN, MINUTE_S))])
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def sent(folder: Path, racer: int) -> list[float]:
    """Return when a racer sent."""
    log = folder / f"{racer}.log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [float(line) for line in lines if line != "ready"]


def test_a_slow_run_does_not_hold_up_a_fast_one(tmp_path: Path) -> None:
    """120 calls at 300 a minute next to a run at 4 a minute, which waits, end within 40 s.

    Of a minute of 60 s: here it has 15 s.
    """
    minute_s = 15.0
    with ExitStack() as stack:
        start(tmp_path, 0, stack, 4, minute_s)
        until_s = boot_time_s() + 20.0
        while not (tmp_path / "0.log").exists() or len(sent(tmp_path, 0)) < 4:
            assert boot_time_s() < until_s
            time.sleep(0.02)
        time.sleep(1.0)  # it has reserved its next call for the next minute
        started_s = boot_time_s()
        assert start(tmp_path, 1, stack, 300, minute_s, 120).wait(timeout=60.0) == 0
        slow, fast = (sent(tmp_path, racer) for racer in range(2))

    assert len(fast) == 120
    assert fast[-1] - started_s <= 40.0 * minute_s / 60.0
    assert len(slow) == 4
