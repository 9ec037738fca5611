"""The process that draws thumbnails while a run waits for its quota."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from gemini_batch.config import Settings
from gemini_batch.output.paths import RESULTS

# At this rate a thumbnail, some 30 ms of CPU, is always made before the next answer.
_MAX_REQUESTS_PER_MIN = 60
# A run that ends sooner has few pictures.
_START_AFTER_S = 30.0
_END_WITHIN_S = 2.0
# What Python and its libraries need; not the key and other secrets.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_", "LD_", "DYLD_", "PYTHON", "VIRTUAL_ENV", "TMPDIR")


@contextmanager
def drawn_ahead(out: Path, config: Settings) -> Iterator[None]:
    """Draw thumbnails in a process of its own; none of a fast, short or simulated run."""
    if not is_slow(config) or find_spec("PIL") is None:
        yield
        return
    path = out / RESULTS
    drawing = _Drawing(out, path.stat().st_size if path.exists() else 0)
    timer = threading.Timer(_START_AFTER_S, drawing.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        drawing.end()


def is_slow(config: Settings) -> bool:
    """Return whether a run waits for its quota for most of the time, with pictures on this disk."""
    rate = config.limits.requests_per_min
    is_here = config.bucket is None and config.shard is None and config.base_url is not None
    return (
        is_here and config.route != "batch" and rate is not None and rate <= _MAX_REQUESTS_PER_MIN
    )


class _Drawing:
    """The process, once it was started."""

    def __init__(self, out: Path, start_bytes: int) -> None:
        self._command = ["-m", "gemini_batch.gallery.ahead", str(out.resolve()), str(start_bytes)]
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._has_ended = False

    def start(self) -> None:
        """Start the process, unless the run has ended."""
        names = (name for name in os.environ if name.startswith(_ENVIRONMENT))
        with self._lock, suppress(OSError):  # without memory for it, the gallery draws later
            if not self._has_ended:
                self._process = subprocess.Popen(  # noqa: S603 # our own module
                    [sys.executable, *self._command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={name: os.environ[name] for name in names},
                    start_new_session=True,  # Ctrl-C is for the run
                )

    def end(self) -> None:
        """Let it finish a picture; end it if that takes longer."""
        with self._lock:
            self._has_ended = True
            process = self._process
        if process is None:
            return
        try:
            process.communicate(timeout=_END_WITHIN_S)  # closes its input
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
