import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from gemini_batch.clock import boot_time_s, utc_now
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Limits
from tests.ledgers import open_storage
from tests.torture.racer import MODEL

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
        "tests.torture.racer",
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
    return [float(line) for line in lines if not line.startswith("ready")]


def wait_for_reserved(folder: Path, number: int, limits: Limits, within_s: float = 300.0) -> None:
    """Wait until so many requests of today are in the ledger: another process reserves them."""
    pause, ends_s = threading.Event(), boot_time_s() + within_s
    with SharedLedger(open_storage(folder / "quota.sqlite"), limits) as ledger:
        while ledger.used(MODEL, boot_time_s(), utc_now())[-2].used < number:
            assert boot_time_s() < ends_s
            pause.wait(0.02)


def test_a_slow_run_does_not_hold_up_a_fast_one(tmp_path: Path) -> None:
    """120 calls at 3,000 a minute end while a run at 4 a minute waits for the next one.

    In a line behind it they would end after that minute.
    """
    minute_s = 60.0
    with ExitStack() as stack:
        start(tmp_path, 0, stack, 4, minute_s)
        slow_limits = Limits(requests_per_min=4, minute_s=minute_s)
        wait_for_reserved(tmp_path, 5, slow_limits)  # four are sent, one is of the next minute
        assert start(tmp_path, 1, stack, 3000, minute_s, 120).wait(timeout=600.0) == 0
        slow, fast = (sent(tmp_path, racer) for racer in range(2))

    assert (len(slow), len(fast)) == (4, 120)
    assert fast[-1] < slow[0] + minute_s
