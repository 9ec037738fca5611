"""Selection of the view of a run, and the task that supplies it with samples."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
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
    """Provide the view for stderr: a live one on a terminal, else a text log, or a JSON log.

    `log_format` is `text` or `json`. At the end of the block all output is written, unless the
    reader is blocked.
    """
    stream = sys.stderr
    run_state = RunState(config.limits, waits_for_reset=config.waits_for_reset)
    write = writer(stream)
    if not info.is_quiet and log_format == "text" and suits_live(stream, os.environ):
        from rich.text import Text

        from gemini_batch.progress.live import FRAME_S, LiveView, is_in_foreground, terminal_size

        file = stream.fileno()
        live = LiveView(
            info, run_state, write, lambda: terminal_size(file), lambda: is_in_foreground(file)
        )

        def dropped_text(number: int) -> Text:
            return Text(_dropped(number))

        writing = WriterThread(live.show, every_s=FRAME_S, dropped_line=dropped_text)
        with writing as thread, live.painting():
            live.write_to(thread.write, thread.flush)
            yield live
        return
    is_json = log_format == "json"

    def dropped_line(number: int) -> str:
        if is_json:
            return log_line(info.clock.utc(), "lines_left_out", {"number": number})
        return _dropped(number)

    def show(lines: list[str]) -> None:
        write("".join(f"{line}\n" for line in lines))

    with WriterThread[str](show, dropped_line=dropped_line) as sink:
        yield (JsonLog if is_json else TextLog)(info, run_state, sink.write, sink.flush)


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
    error: Exception | None = None
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(_sample(run, view), name="sample the run")
        try:
            yield
        except Exception as raised:  # noqa: BLE001 # raised again below, and not in a group
            error = raised
        finally:
            sampling.cancel()
    if error is not None:
        raise error


async def _sample(run: Run, view: View) -> None:
    with suppress(Exception):  # a failing display must not cost answers in flight
        while True:
            await asyncio.sleep(view.every_s)
            try:
                used = await run.used()
            except StorageError:  # the rate limiter meets and reports it as well
                used = {}
            view.update(Sample(run.in_flight, used))


def _dropped(number: int) -> str:
    return f"({count(number, 'line')} dropped: output was blocked)"
