"""`jobs/cluster`: GNU parallel starts its workers; the others are read by what they are for, or started as it would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.output.rows import newest_rows
from gemini_batch.output.shards import generations
from gemini_batch.simulator import Simulator
from tests.simulated import simulator

pytestmark = pytest.mark.cluster
SAMPLES = Path(__file__).parents[2] / "jobs" / "cluster"
NAMES = [f"call {number}" for number in range(24)]


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """Return a simulator for this module."""
    with simulator() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a manifest."""
    (tmp_path / "jobs.jsonl").write_bytes(
        b"".join(
            orjson.dumps({"id": f"c{n}", "prompt": name}) + b"\n" for n, name in enumerate(NAMES)
        )
    )
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the variables of a process that has a key, and a state folder of its own."""
    bin_folder = Path(sys.executable).parent
    own = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "GEMINI_API_KEY": "a-key",
        "GEMINI_BATCH_STATE_DIR": str(folder / "state"),
        "HOME": str(folder),
    }
    return os.environ | own | more


def ran(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def flags(server: Simulator) -> tuple[str, ...]:
    """Return the flags of a run as fast as possible."""
    return ("--base-url", server.base_url, "--rpm", "6000", "--rpd", "100000", "--quiet")


def has_parallel() -> bool:
    """Return whether GNU parallel is there; it must be where the environment asks for it."""
    found = shutil.which("parallel")
    is_gnu = (
        bool(found)
        and "GNU"
        in subprocess.run(
            [str(found), "--version"], capture_output=True, text=True, check=False
        ).stdout
    )
    if not is_gnu and os.environ.get("GEMINI_BATCH_NEEDS_CLUSTER"):
        pytest.fail("no GNU parallel on the PATH, and GEMINI_BATCH_NEEDS_CLUSTER asks for it")
    return is_gnu


def test_gnu_parallel_starts_the_workers(folder: Path, server: Simulator) -> None:
    """Each call is sent by one of them; again with another number, nothing is; the budget is of the run that parallel names."""
    if not has_parallel():
        pytest.skip("no GNU parallel")
    before = len(server.audit.entries)
    script = str(SAMPLES / "parallel.sh")
    told = ran(folder, script, "3", "jobs.jsonl", *flags(server), "--max-cost", "99")
    assert (told.returncode, told.stderr) == (0, "")
    assert len([*newest_rows(folder / "jobs.out")]) == len(NAMES)
    assert ran(folder, script, "2", "jobs.jsonl", *flags(server)).returncode == 0
    assert len(server.audit.entries) - before == len(NAMES)
    assert [each.count for each in generations(folder / "jobs.out")] == [3, 2]


def test_the_exit_code_of_parallel_is_that_of_the_worst_worker(
    folder: Path, server: Simulator
) -> None:
    """A stop of one worker is a stop of the run; a flag of the run that is wrong is wrong usage."""
    if not has_parallel():
        pytest.skip("no GNU parallel")
    script = str(SAMPLES / "parallel.sh")
    told = ran(folder, script, "3", "jobs.jsonl", *flags(server), "--max-cost", "0.3")
    assert told.returncode == 5, told.stderr
    assert ran(folder, script, "2", "jobs.jsonl", "--only", "no such id").returncode == 3
    assert ran(folder, script, "2", "jobs.jsonl", "--no-such-flag").returncode == 2
    assert ran(folder, script).returncode == 2


def test_slurm_starts_each_task_with_its_part(folder: Path, server: Simulator) -> None:
    """Its variables name the part, and the script becomes the run, so that the signal at its end reaches it."""
    before = len(server.audit.entries)
    array = {
        "SLURM_ARRAY_TASK_MIN": "1",
        "SLURM_ARRAY_TASK_MAX": "2",
        "SLURM_ARRAY_TASK_COUNT": "2",
    }
    for index in ("1", "2"):
        more = array | {"SLURM_ARRAY_TASK_ID": index, "SLURM_ARRAY_JOB_ID": "7"}
        told = ran(folder, str(SAMPLES / "slurm.sh"), "jobs.jsonl", *flags(server), **more)
        assert told.returncode == 0, told.stderr
    assert len(server.audit.entries) - before == len(NAMES)
    text = (SAMPLES / "slurm.sh").read_text()
    assert '\nexec "${GEMINI_BATCH' in text
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH ")]
    first_command = text.index("set -u")
    assert all(text.index(line) < first_command for line in directives)  # later ones do not count
    assert ran(folder, str(SAMPLES / "slurm.sh")).returncode == 2


def test_cloud_run_gets_a_job_of_so_many_tasks(folder: Path) -> None:
    """`gcloud` gets each flag; no call is started in the last minutes of a task."""
    gcloud = folder / "gcloud"
    gcloud.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >gcloud.txt\n')
    gcloud.chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    script = str(SAMPLES / "cloud-run.sh")
    told = ran(folder, script, "image:1", "10.0.0.2:/vol", "8", "--tier", "tier-3", **path)
    assert told.returncode == 0, told.stderr
    given = (folder / "gcloud.txt").read_text().splitlines()
    named = dict(pairwise(given))
    assert given[:4] == ["run", "jobs", "deploy", "gemini-batch"]
    assert (named["--tasks"], named["--parallelism"]) == ("8", "8")
    arguments = named["--args"].split(",")
    assert arguments[:4] == ["run", "/data/jobs.jsonl", "--shard", "auto"]
    assert arguments[-2:] == ["--tier", "tier-3"]
    deadline_s = int(arguments[arguments.index("--deadline") + 1])
    assert int(named["--task-timeout"].removesuffix("s")) - deadline_s >= 300
    assert ran(folder, script, "image:1", **path).returncode == 2


def test_the_job_is_one_for_kubernetes() -> None:
    """It has the form that Kubernetes documents, each worker its part, and time to end; exit codes that a restart does not help fail the index."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    yaml = pytest.importorskip("yaml")
    job: dict[str, Any] = yaml.safe_load((SAMPLES / "indexed-job.yaml").read_text())
    named = job | {"metadata": {"name": "gemini-batch-x"}}
    kubernetes_validate.validate(named, "1.31", strict=True)
    spec = job["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["completions"] == spec["parallelism"] == 16
    assert container["args"][container["args"].index("--shard") + 1] == "auto/16"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 330
    codes = spec["podFailurePolicy"]["rules"][1]["onExitCodes"]
    assert codes["containerName"] == container["name"]
    assert codes["values"] == [2, 3, 4, 5, 6]
