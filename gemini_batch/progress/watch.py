"""Chooses how a run is shown, and asks for what the view wants to know."""

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
from gemini_batch.progress.text_log import Lines
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.writer_thread import WriterThread, writer


@contextmanager
def watching(about: RunInfo, config: Settings, *, log_format: str = "text") -> Iterator[View]:
    """Give the view that suits stderr: a live one on a terminal, else lines; JSON when it is asked for.

    At the end of the block all that was said is written, unless nobody reads it.

    Args:
        about: What is known of the run.
        config: Its settings.
        log_format: `text` or `json`.
    """
    stream, clock = sys.stderr, about.clock
    tally = RunState(config.limits, waits_for_reset=config.waits_for_reset)
    if not about.is_quiet and log_format == "text" and suits_live(stream, os.environ):
        from rich.text import Text

        from gemini_batch.progress.live import FRAME_S, Live, is_in_front, terminal_size

        file = stream.fileno()
        live = Live(
            about, tally, writer(stream), lambda: terminal_size(file), lambda: is_in_front(file)
        )
        with (
            WriterThread(
                live.show, every_s=FRAME_S, left_out=lambda number: Text(_left_out(number))
            ) as outlet,
            live,
        ):
            live.speak_through(outlet)
            yield live
        return
    write = writer(stream)
    is_json = log_format == "json"

    def left_out_line(number: int) -> str:
        return (
            log_line(clock.utc(), "lines_left_out", {"number": number})
            if is_json
            else _left_out(number)
        )

    with WriterThread[str](
        lambda lines: write("".join(f"{line}\n" for line in lines)), left_out=left_out_line
    ) as outlet_:
        yield (JsonLog if is_json else Lines)(about, tally, outlet_)


def suits_live(stream: TextIO | None, environment: Mapping[str, str]) -> bool:
    """Return whether a stream is a terminal that a person looks at and that can be painted on."""
    if stream is None or not stream.isatty() or "utf" not in (stream.encoding or "").lower():
        return False
    if environment.get("TERM", "dumb") in {"dumb", "unknown", ""}:
        return False
    return environment.get("CI", "").lower() in {"", "0", "false"}


@asynccontextmanager
async def sampled(run: Run, view: View) -> AsyncIterator[None]:
    """While the block goes on, tell the view what is in flight and what is used of the quota, as often as it likes.

    Cancellation: safe; no more is told.
    """
    error: Exception | None = None
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(_ask(run, view), name="ask for what is used")
        try:
            yield
        except Exception as raised:  # noqa: BLE001 # raised again below: as it is, and not in a group
            error = raised
        finally:
            asking.cancel()
    if error is not None:
        raise error


async def _ask(run: Run, view: View) -> None:
    with suppress(Exception):  # a gauge is no reason to lose what is in flight, and paid for
        while True:
            await asyncio.sleep(view.every_s)
            try:
                used = await run.used()
            except StorageError:  # the gate meets it as well, and says so
                used = {}
            view.take(Sample(run.in_flight, used))


def _left_out(number: int) -> str:
    return f"({count(number, 'line')} left out: nobody read on)"
