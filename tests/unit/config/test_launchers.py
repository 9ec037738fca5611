"""The part of a worker by what the user says, or by the variables of what starts it."""

import pytest

from gemini_batch.config.launchers import run_id_of, shard_of
from gemini_batch.config.run_config import RunConfig
from gemini_batch.errors import FlagsError
from gemini_batch.records.shard import MAX_SHARDS, Shard, owner

SLURM = {
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "16",
    "SLURM_ARRAY_TASK_COUNT": "16",
    "SLURM_ARRAY_JOB_ID": "4711",
}
FROM_0 = SLURM | {"SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "15"}
PART = SLURM | {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "2"}
CLOUD_RUN = {
    "CLOUD_RUN_TASK_INDEX": "0",
    "CLOUD_RUN_TASK_COUNT": "10",
    "CLOUD_RUN_EXECUTION": "job-x",
}
AWS = {
    "AWS_BATCH_JOB_ARRAY_INDEX": "9",
    "AWS_BATCH_JOB_ARRAY_SIZE": "10",
    "AWS_BATCH_JOB_ID": "ab-cd:9",
}
KUBERNETES = {"JOB_COMPLETION_INDEX": "15"}
PARALLEL = {"PARALLEL_SEQ": "2", "PARALLEL_PID": "99"}


@pytest.mark.parametrize(
    ("text", "variables", "shard", "run_id"),
    [
        ("3/16", {}, Shard(3, 16), ""),
        ("1/1", {}, Shard(1, 1), ""),
        ("3/4", SLURM, Shard(3, 4), "4711"),
        ("auto", SLURM, Shard(3, 16), "4711"),
        ("auto", FROM_0, Shard(4, 16), "4711"),
        ("auto/16", PART, Shard(3, 16), "4711"),
        ("auto", CLOUD_RUN, Shard(1, 10), "job-x"),
        ("auto", AWS, Shard(10, 10), "ab-cd"),
        ("auto/16", KUBERNETES, Shard(16, 16), ""),
        ("auto/3", PARALLEL, Shard(2, 3), "99"),
    ],
)
def test_each_launcher_tells_the_part(
    text: str, variables: dict[str, str], shard: Shard, run_id: str
) -> None:
    """Its numbers begin with 0 or 1; the name of the run is the same for all workers, and for one that is started again."""
    assert shard_of(text, variables) == shard
    assert run_id_of(variables) == run_id


@pytest.mark.parametrize(
    ("text", "variables", "message"),
    [
        ("0/4", {}, '--shard: got "0/4"; allowed: I/N with I from 1 to N'),
        ("5/4", {}, '--shard: got "5/4"'),
        ("1", {}, "allowed"),
        ("", {}, "allowed"),
        ("1/4/2", {}, "allowed"),
        (f"1/{MAX_SHARDS + 1}", {}, "allowed"),
        ("auto", {}, "no variable of SLURM, Cloud Run Jobs"),
        ("auto", KUBERNETES, "no variable of Kubernetes has the number of workers; name it"),
        ("auto", PARALLEL, "no variable of GNU parallel has the number"),
        ("auto", PART, "no variable of SLURM has the number"),
        ("auto/x", SLURM, "SLURM_ARRAY_TASK_ID is"),
        ("auto/2", SLURM, 'SLURM_ARRAY_TASK_ID is "3"; allowed'),
        ("auto/2", KUBERNETES | {"JOB_COMPLETION_INDEX": "x"}, 'is "x"; allowed'),
    ],
)
def test_what_is_no_part_is_wrong_usage(text: str, variables: dict[str, str], message: str) -> None:
    """The message says what was found, and what is allowed."""
    with pytest.raises(FlagsError, match=message.replace("/", "/")):
        shard_of(text, variables)


def test_the_concurrency_is_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen workers do not have sixteen times the calls in flight; each has at least one."""
    for flags, calls in (({}, 64), ({"shard": "1/16"}, 4), ({"shard": "9/99"}, 1)):
        config = RunConfig(simulate=True, concurrency=64, **flags)
        assert config.settings().concurrency == calls
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    settings = RunConfig(simulate=True, shard="auto").settings()
    assert (settings.shard, settings.run_id) == (Shard(3, 16), "4711")
    assert RunConfig(simulate=True, shard="auto", run_id="mine").settings().run_id == "mine"
    assert RunConfig(simulate=True).settings().run_id == ""


def test_each_call_has_one_owner() -> None:
    """All processes and machines decide alike, and spread the calls evenly."""
    names = [f"robot.{number}" for number in range(1600)]
    owners = [owner(name, 16) for name in names]
    assert (owner("robot", 16), owner("café/☃", 16)) == (5, 7)
    assert min(map(owners.count, range(1, 17))) > 50
    assert [sum(Shard(index, 16).owns(name) for index in range(1, 17)) for name in names] == [
        1
    ] * 1600
