"""Ray tasks: each is one worker, which runs as a child process and ends with its task.

Ray places a task on any node, and starts it again when its node is gone; the worker's folder, which
all nodes see, has what is done. The key is in the environment of the nodes, and in no argument.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from gemini_batch.errors import ConfigError, ExitCode

# Calls wait most of the time: ten workers share a core.
_CPUS = 0.1
_RETRIES = 10
_BUSY_S = 5.0
_LOOK_S = 0.2
_LINES, _BYTES = 20, 1 << 16
_KILLED = 128
# A child that outlives its task would send on, and hold the folder: Linux ends it (PR_SET_PDEATHSIG
# is 1), also after the exec. The parent may be gone before that is set.
_BOUND = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 9)
except AttributeError:
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(137)
os.execv(sys.executable, [sys.executable, "-m", "gemini_batch", *sys.argv[2:]])
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a worker.

    Attributes:
        number: Its place among the commands.
        exit_code: Of its process; that of a killed one is 128 and the signal.
        lines: The last lines that it wrote to stderr.
    """

    number: int
    exit_code: int
    lines: tuple[str, ...]


class TryAgainError(Exception):
    """The worker was killed, or another one holds its folder; Ray starts it again."""


@dataclass(eq=False)
class RayCluster:
    """The workers of one run on a Ray cluster.

    Attributes:
        hosts: The machines of its nodes.
    """

    address: str | None
    hosts: frozenset[str] = frozenset()
    _ray: Any = None
    _exit_code: ExitCode = ExitCode.INTERRUPTED
    _left: dict[Any, int] = field(default_factory=dict)  # reference of a task → its number

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one on this machine where there is none.

        Raises:
            ConfigError: Ray is not installed, or there is no cluster at the address.
        """
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                "Ray is not installed; install it: pip install 'gemini_batch[ray]'"
            ) from error
        self._ray = ray
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, ValueError, RuntimeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise ConfigError(f"--address: no Ray cluster can be reached: {first}") from error
        nodes = [node for node in self._ray.nodes() if node.get("Alive")]
        self.hosts = frozenset(str(node.get("NodeManagerHostname")) for node in nodes)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the cluster; what still runs is ended with its children."""
        self._ray.shutdown()

    def start(self, commands: Sequence[Sequence[str]], folder: str) -> None:
        """Start a task for each command: arguments of `gemini-batch`, and its working folder."""
        options = {
            "num_cpus": _CPUS,
            "max_retries": _RETRIES,
            "retry_exceptions": [TryAgainError],
            "scheduling_strategy": "SPREAD",
        }
        task = self._ray.remote(**options)(work)
        self._left = {
            task.remote(list(command), folder): number for number, command in enumerate(commands)
        }

    @property
    def is_running(self) -> bool:
        """True while a task has not ended."""
        return bool(self._left)

    def ended(self, within_s: float) -> list[Ended]:
        """Wait for a while; return the workers that ended meanwhile."""
        ready, _ = self._ray.wait(
            [*self._left], num_returns=len(self._left), timeout=within_s, fetch_local=False
        )
        return [self._end(each) for each in ready]

    def drain(self, exit_code: ExitCode) -> None:
        """Ask all workers to start no more calls; those in flight are completed.

        A worker that was asked ends with `exit_code`.
        """
        self._exit_code = exit_code
        for task in self._left:
            self._ray.cancel(task, force=False)

    def _end(self, task: Any) -> Ended:
        number = self._left.pop(task)
        try:
            exit_code, lines = self._ray.get(task)
        except self._ray.exceptions.TaskCancelledError:
            return Ended(number, self._exit_code, ())
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, TryAgainError):
                return Ended(number, cause.args[0], tuple(cause.args[1]))
            return Ended(number, ExitCode.BUG, (f"{type(cause).__name__}: {cause}",))
        except self._ray.exceptions.RayError as error:
            text = f"was lost {_RETRIES} times: {type(error).__name__}"
            return Ended(number, _KILLED + 9, (text,))
        return Ended(number, exit_code, tuple(lines))


def work(arguments: list[str], folder: str) -> tuple[int, list[str]]:
    """Run a worker as a child process; return its exit code and its last lines.

    Cancellation: the child is asked to end, and its calls in flight are awaited.

    Raises:
        TryAgainError: It was killed, or its folder is held, as by one whose node is cut off.
        OSError: The working folder is not on this node.
    """
    command = [sys.executable, "-c", _BOUND, str(os.getpid()), *arguments]
    with tempfile.TemporaryFile() as stderr:
        child = subprocess.Popen(  # noqa: S603
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr
        )
        try:
            while child.poll() is None:
                time.sleep(_LOOK_S)
        except BaseException:
            child.terminate()
            child.wait()
            raise
        code = child.returncode if child.returncode >= 0 else _KILLED - child.returncode
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - _BYTES))
        lines = stderr.read().decode(errors="replace").splitlines()[-_LINES:]
    if code == ExitCode.BUSY:
        time.sleep(_BUSY_S)
    if code == ExitCode.BUSY or child.returncode < 0:
        raise TryAgainError(code, lines)
    return code, lines
