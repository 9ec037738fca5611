import subprocess
import sys

import time_machine

from gemini_batch.clock import Clock, boot_id, boot_time_s


def test_boot_time_is_the_same_for_all_processes() -> None:
    """Two processes read one clock, which counts from the boot of the machine."""
    before = boot_time_s()
    command = [
        sys.executable,
        "-c",
        "from gemini_batch.clock import *; print(boot_time_s(), boot_id())",
    ]
    at_s, boot = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
        " "
    )

    assert before < float(at_s) < boot_time_s()
    assert boot.strip() == boot_id()


def test_boot_time_does_not_follow_the_wall_clock() -> None:
    """Setting the wall clock does not change the steady clock."""
    before = Clock().steady_s()
    with time_machine.travel(0, tick=False):
        assert Clock().utc().year == 1970
        assert any(Clock().steady_s() > before for _ in range(1_000_000))
        passed_s = Clock().steady_s() - before

    assert passed_s < 10


def test_boot_has_a_name() -> None:
    """The identifier of the boot is found where the system has one."""
    assert len(boot_id()) >= 32
