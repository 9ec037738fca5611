"""The part and the name of a run by the variables of the program that starts its workers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gemini_batch.errors import FlagsError
from gemini_batch.records.shard import Shard
from gemini_batch.wording import shown

_Variables = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Launcher:
    """A program that starts the workers.

    Attributes:
        index: The variable of the worker's number.
        first: The first number.
        count: Returns the number of workers; None if no variable has it.
        run_id: Returns the name of the run, the same for a worker that is started again.
    """

    name: str
    index: str
    first: Callable[[_Variables], int]
    count: Callable[[_Variables], int | None]
    run_id: Callable[[_Variables], str]


def _slurm_first(variables: _Variables) -> int:
    return 0 if variables.get("SLURM_ARRAY_TASK_MIN") == "0" else 1


def _slurm_count(variables: _Variables) -> int | None:
    """Return the size of an array of all numbers from 0 or 1 on; None for a part of one."""
    first, last = (variables.get(f"SLURM_ARRAY_TASK_{each}", "") for each in ("MIN", "MAX"))
    count = variables.get("SLURM_ARRAY_TASK_COUNT", "")
    if not (first in {"0", "1"} and last.isdigit() and count.isdigit()):
        return None
    return int(count) if int(last) - int(first) + 1 == int(count) else None


def _number(name: str) -> Callable[[_Variables], int | None]:
    return lambda variables: int(text) if (text := variables.get(name, "")).isdigit() else None


# Variables: SLURM https://slurm.schedmd.com/job_array.html, Cloud Run Jobs
# https://cloud.google.com/run/docs/container-contract, AWS Batch
# https://docs.aws.amazon.com/batch/latest/userguide/job_env_vars.html, Kubernetes
# https://kubernetes.io/docs/concepts/workloads/controllers/job/, GNU parallel its manual
# (all collected 2026-11-30).
_LAUNCHERS = (
    _Launcher(
        "SLURM",
        "SLURM_ARRAY_TASK_ID",
        _slurm_first,
        _slurm_count,
        lambda variables: variables.get("SLURM_ARRAY_JOB_ID", ""),
    ),
    _Launcher(
        "Cloud Run Jobs",
        "CLOUD_RUN_TASK_INDEX",
        lambda _: 0,
        _number("CLOUD_RUN_TASK_COUNT"),
        lambda variables: variables.get("CLOUD_RUN_EXECUTION", ""),
    ),
    _Launcher(
        "AWS Batch",
        "AWS_BATCH_JOB_ARRAY_INDEX",
        lambda _: 0,
        _number("AWS_BATCH_JOB_ARRAY_SIZE"),
        lambda variables: variables.get("AWS_BATCH_JOB_ID", "").partition(":")[0],
    ),
    _Launcher("Kubernetes", "JOB_COMPLETION_INDEX", lambda _: 0, lambda _: None, lambda _: ""),
    _Launcher(
        "GNU parallel",
        "PARALLEL_SEQ",
        lambda _: 1,
        lambda _: None,
        lambda variables: variables.get("PARALLEL_PID", ""),
    ),
)


def shard_of(text: str, variables: _Variables) -> Shard:
    """Return the part of `I/N`, or of `auto` or `auto/N` by the variables of the environment.

    Raises:
        FlagsError: It names none, or the variables do.
    """
    word, _, count_text = text.partition("/")
    if word != "auto":
        return _parsed(text, f"--shard: got {shown(text)}")
    launcher = _found(variables)
    if launcher is None:
        names = ", ".join(each.name for each in _LAUNCHERS)
        raise FlagsError(
            f"--shard: {text}: no variable of {names} is set; name the part, as in --shard 3/16"
        )
    count = count_text or launcher.count(variables)
    if not count:
        raise FlagsError(
            f"--shard: auto: no variable of {launcher.name} has the number of workers; name it, as "
            "in --shard auto/16"
        )
    found = variables[launcher.index]
    where = f"--shard: {text}: {launcher.index} is {shown(found)}"
    index = int(found) - launcher.first(variables) + 1 if found.isdigit() else 0
    return _parsed(f"{index}/{count}", where)


def run_id_of(variables: _Variables) -> str:
    """Return the name of the run by the launcher's variables; "" without one."""
    launcher = _found(variables)
    return launcher.run_id(variables) if launcher else ""


def _found(variables: _Variables) -> _Launcher | None:
    return next((each for each in _LAUNCHERS if variables.get(each.index)), None)


def _parsed(text: str, where: str) -> Shard:
    try:
        return Shard.parse(text)
    except ValueError as error:
        raise FlagsError(
            f"{where}; allowed: I/N with I from 1 to N, as in 3/16; auto; auto/16"
        ) from error
