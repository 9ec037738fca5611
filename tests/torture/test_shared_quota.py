import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from gemini_batch.clock import boot_time_s
from tests.torture.test_mixed_limits import MINUTE_S, PER_MIN, sent, start
from tests.unit.quota.test_model_quota import fullest

RACERS, RACE_S = 8, 4.0
VICTIMS = (1, 4, 6)


@pytest.mark.promise("quota")
def test_eight_processes_share_a_quota_and_overrun_nothing(tmp_path: Path) -> None:
    """Eight processes race for one quota, some are killed and started again: no interval is overrun, and each gets its share."""
    with ExitStack() as stack:
        racers = [start(tmp_path, racer, stack) for racer in range(RACERS)]
        while not all(
            (tmp_path / f"{racer}.log").exists() and sent(tmp_path, racer)
            for racer in range(RACERS)
        ):
            assert all(racer.poll() is None for racer in racers)
            time.sleep(0.02)
        started_s = boot_time_s()
        for victim in VICTIMS:
            time.sleep(RACE_S / 4)
            racers[victim].kill()
            racers[victim].wait()
            racers[victim] = start(tmp_path, victim, stack)
        time.sleep(started_s + RACE_S - boot_time_s())
        ended_s = boot_time_s()

    everyone = [at_s for racer in range(RACERS) for at_s in sent(tmp_path, racer)]
    assert fullest([(at_s, 1) for at_s in everyone], MINUTE_S) <= PER_MIN
    shares = [
        sum(started_s <= at_s < ended_s for at_s in sent(tmp_path, racer))
        for racer in range(RACERS)
    ]
    # Those that were away for a while, and started anew for as long as a busy machine takes for it, can't have had theirs of the whole time.
    unhurt = [share for racer, share in enumerate(shares) if racer not in VICTIMS]
    assert 2 * min(unhurt) >= max(shares), shares
    assert min(shares) > 0, shares
