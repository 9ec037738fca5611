import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.engine import commit, sender
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator
from tests.torture.commands import Ended, run, sent, write_jobs
from tests.torture.desk import ROOT
from tests.torture.test_disk import CALLS, check_goes_on, check_stopped

# Where there is no memory for a moment, after how often there was, and how many answers that were on their way may be lost by it.
PLACES: list[tuple[Any, str, int, int]] = [
    (SharedLedger, "reserve", 9, 0),
    (InFlightLog, "sent", 9, 0),
    (StagedAnswer, "__init__", 9, 0),
    (ImageExtractor, "feed", 9, 1),
    (StagedAnswer, "open_image", 9, 1),
    (ImageExtractor, "finish", 9, 1),
    (sender, "parse_answer", 9, 0),
    (OutputFolder, "describe", 9, 0),
    (ResultsFile, "append", 9, 0),
    (OutputFolder, "place", 9, 0),
    (OutputFolder, "publish", 9, 0),
    (commit.Committer, "_announce", 9, 0),
    (InFlightLog, "ended", 9, 0),
    (StagedAnswer, "discard", 9, 0),
    (OutputFolder, "sync", 3, 0),
    (ResultsFile, "sync", 1, 0),
    (OutputFolder, "note_durable", 1, 0),
]


@pytest.mark.parametrize("place", PLACES, ids=[name for _, name, _, _ in PLACES])
def test_no_memory_left_stops_the_sending(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str, int, int],
) -> None:
    """Wherever there is none for a moment, the run ends with 8 and one sentence, and the next one goes on; an answer that was whole is not sent again."""
    owner, name, passes, lost = place
    ids, left, does = write_jobs(tmp_path, CALLS), [passes], getattr(owner, name)

    def but_once(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] == -1:
            raise MemoryError
        return does(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, but_once)
        ended = run(tmp_path, server.base_url)
    check_stopped(ended)
    assert "out of memory" in ended.err
    assert len(list(sent(server))) < CALLS
    check_goes_on(tmp_path, server, ids, at_most_again=lost)


def limited(megabytes: int) -> Callable[[], None]:
    """Return what bounds the memory of a process."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="macOS knows no limit of a process's memory")
# Not with 39, where CPython 3.11 tries for ever to raise an exception that finds no memory, nor with
# 60, where memory ends while a dependency loads its C extensions, and one in forty crashes.
@pytest.mark.parametrize("megabytes", [55, 70, 90])
def test_a_process_that_gets_no_memory_says_so(tmp_path: Path, megabytes: int) -> None:
    """With less memory than a run takes it does what it can, or ends with 8: no traceback, no bug; with enough the next one goes on."""
    ids = write_jobs(tmp_path, CALLS)
    with simulator(
        SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.05, image_bytes=3_000_000)
    ) as server:
        flags = [
            "--base-url",
            server.base_url,
            "--rpm",
            "60000",
            "--rpd",
            "1000000",
            "--concurrency",
            "16",
        ]
        command_line = [
            sys.executable,
            "-m",
            "gemini_batch",
            "run",
            str(tmp_path / "jobs.jsonl"),
            *flags,
        ]
        found = subprocess.run(
            command_line,
            cwd=ROOT,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limited(megabytes),
            timeout=60,
        )
        ended = Ended(found.returncode, found.stdout, found.stderr)
        assert ended.code in {0, 8}, ended
        assert ended.is_clean, ended
        assert ended.code == 0 or "out of memory" in ended.err
        check_goes_on(tmp_path, server, ids, at_most_again=16)
