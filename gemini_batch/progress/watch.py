"""Selection of the view of a run, and the task that supplies it with samples."""

import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TextIO

from gemini_batch.config import Settings
from gemini_batch.engine.session import Run
from gemini_batch.errors import StorageError
from gemini_batch.progress.formatting import count
from gemini_batch.progress.json_log import JsonLog, log_line
from gemini_batch.progress.run_state import RunState, Sample
from gemini_batch.progress.text_log import TextLog
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.writer_thread import WriterThread, writer


@contextmanager
def watching(info: RunInfo, config: Settings, *, log_format: str = "text") -> Iterator[View]:
    """Provide the view: live on a terminal or in a notebook, else a text log or a JSON log.

    `log_format` is `text` or `json`. At the end of the block all output is written, unless the
    reader is blocked.
    """
    stream, is_json = sys.stderr, log_format == "json"
    run_state = RunState(config.limits, waits_for_reset=config.waits_for_reset)
    write = writer(stream)

    def dropped_line(number: int) -> str:
        if is_json:
            return log_line(info.clock.utc(), "lines_left_out", {"number": number})
        return f"({count(number, 'line')} dropped: output was blocked)"

    if not is_json and is_notebook():
        from gemini_batch.progress.notebook import MAX_LINES, NotebookView

        shown: deque[str] = deque(maxlen=MAX_LINES)
        yield NotebookView(info, run_state, shown.append, lambda: None, _lines=shown)
        return
    if not info.is_quiet and not is_json and suits_live(stream, os.environ):
        from rich.text import Text

        from gemini_batch.progress.live import FRAME_S, LiveView, is_in_foreground, terminal_size

        file = stream.fileno()
        size, in_foreground = partial(terminal_size, file), partial(is_in_foreground, file)
        live = LiveView(info, run_state, write, size, in_foreground)
        thread = WriterThread[Text](
            live.show, every_s=FRAME_S, dropped_line=lambda number: Text(dropped_line(number))
        )
        with thread, live.painting():
            live.write_to(thread.write, thread.flush)
            yield live
        return

    def show(lines: list[str]) -> None:
        write("".join(f"{line}\n" for line in lines))

    with WriterThread(show, dropped_line=dropped_line) as sink:
        yield (JsonLog if is_json else TextLog)(info, run_state, sink.write, sink.flush)


def is_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def suits_live(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether a stream is an interactive terminal that can show the live view."""
    if stream is None or not stream.isatty() or "utf" not in (stream.encoding or "").lower():
        return False
    if environment.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return False
    return environment.get("CI", "").lower() in {"", "0", "false"}


@asynccontextmanager
async def sampled(run: Run, view: View) -> AsyncIterator[None]:
    """Supply the view with samples at its interval until the block ends.

    Cancellation: safe; no more samples are supplied.
    """
    import asyncio  # a run with nothing to do has no event loop

    sampling = asyncio.create_task(_sample(run, view), name="sample the run")
    try:
        yield
    finally:
        sampling.cancel()
        await asyncio.wait([sampling])


async def _sample(run: Run, view: View) -> None:
    import asyncio

    with suppress(Exception):  # a failing display must not cost answers in flight
        while True:
            await asyncio.sleep(view.every_s)
            try:
                used = await run.used()
            except StorageError:  # the rate limiter meets and reports it as well
                used = {}
            view.update(Sample(run.in_flight, used))
