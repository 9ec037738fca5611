"""Python API: jobs in, a summary or rows out, by the same engine as the command line.

::

    summary = await run([Job(prompt="A cute robot mascot")], RunConfig(out="robots.out"))

    async for row in stream("jobs.jsonl", RunConfig(tier="pay-as-you-go")):
        print(row.id, row.status, [image.file for image in row.images])
"""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeVar

from gemini_batch.config import Settings
from gemini_batch.config.run_config import RunConfig, as_options
from gemini_batch.engine import setup
from gemini_batch.engine.session import Run
from gemini_batch.engine.summary import Summary, raise_for_stop
from gemini_batch.errors import ConfigError, StorageError, storage_errors
from gemini_batch.events import (
    BatchNotice,
    CallFinished,
    CallHeld,
    CallNotReused,
    CallRetrying,
    Event,
    LedgerNotice,
    ManifestWarning,
    ModelReplaced,
    Observer,
    Repaired,
    RunStarted,
    Stopping,
)
from gemini_batch.manifest.writer import NAME, AnyJob, write_jobs
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.results import Result, result_of
from gemini_batch.output.row_lines import row_of
from gemini_batch.output.rows import row_at
from gemini_batch.plan.folders import working_folder
from gemini_batch.progress import messages
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.watch import sampled, watching
from gemini_batch.records import Stop, StopReason

T = TypeVar("T")

Jobs: TypeAlias = Iterable[AnyJob] | AsyncIterable[AnyJob] | str | PathLike[str]
"""Jobs, or the path of a manifest. All of them are read and checked before the first is sent."""

_log = logging.getLogger("gemini_batch")
_CANCELLED = Stop(
    StopReason.INTERRUPTED,
    "cancelled: the calls in flight are finished; running again sends the others",
)


async def run(jobs: Jobs, config: RunConfig | None = None, *, progress: bool = False) -> Summary:
    """Send what is not done yet, and return the summary; running it again is always safe.

    Its progress goes to the logger `gemini_batch`: warnings, and with INFO each call that ended.

    Args:
        jobs: The jobs, or the path of a manifest. Relative paths of images start at the current
            folder, or at the manifest's.
        config: The options of the run; None is the defaults of the command line. Jobs that are
            no manifest need its `out`.
        progress: Show the run in a notebook, or on stderr as the command line does.

    Returns:
        The summary, also of a run that a budget, a deadline or the day's quota has ended: see
        `exit_code` and `stops`. Failed jobs are rows.

    Raises:
        StoppedError: The run was stopped by what waiting does not fix: the key, a permission, the
            model, the address, billing, a full disk. Its `summary` has what was done.
        ManifestError: Jobs are wrong; nothing was sent.
        ConfigError: The config, or the environment, is wrong; nothing was sent.
        FolderBusyError: Another run holds the output folder.
        StorageError: The output folder can't be written, or what is in it is damaged.

    Cancellation: safe. No more calls are started; those in flight are paid for, so they are
    completed and written. A second cancellation abandons them.
    """
    async with _sending(jobs, config or RunConfig(), _log_event, progress=progress) as (sending, _):
        summary = await asyncio.shield(sending)
    raise_for_stop(summary)
    return summary


def stream(jobs: Jobs, config: RunConfig | None = None, *, progress: bool = False) -> "Rows":
    """Send what is not done yet, and yield each row as soon as it and its images are durable.

    Arguments, errors and cancellation are those of `run`. The run begins with the first row;
    `StoppedError` comes after the last one.
    """
    return Rows(jobs, config or RunConfig(), progress=progress)


class Rows(AsyncIterator[Result]):
    """The rows of one run, in the order of finishing. Rows wait on the disk, not in memory.

    To leave the loop early, close it, which ends the run as cancelling does: `async with
    contextlib.aclosing(stream(jobs, config)) as rows`. A bare `break` ends it too, as soon as the
    rows are garbage-collected, but does not wait: calls in flight are completed in the background,
    and are lost if the event loop ends first.

    Attributes:
        summary: The result of the run; None until the last row was taken.
    """

    # The run is a task that does not reference these rows, and not a suspended generator, so
    # that it can end when they are dropped.

    def __init__(self, jobs: Jobs, config: RunConfig, *, progress: bool = False) -> None:
        self.summary: Summary | None = None
        self._jobs = jobs
        self._progress = progress
        self._config = config
        self._finished = _Finished()
        self._going: asyncio.Task[Summary] | None = None
        self._is_over = False

    async def __anext__(self) -> Result:
        """Return the next row.

        Raises:
            StoppedError: All rows were taken, and the run was stopped as `run` says.
        """
        if self._is_over:
            raise StopAsyncIteration
        if self._going is None:
            sending = _sent(self._jobs, self._config, self._finished, progress=self._progress)
            self._going = asyncio.create_task(sending, name="rows")
            _under_way.add(self._going)
            self._going.add_done_callback(_under_way.discard)
            self._going.add_done_callback(self._finished.end)
        try:
            place = await self._finished.get()
            if place is not None:
                return await asyncio.to_thread(_row_at, self._finished.out, place)
        except BaseException:
            await self.aclose()
            raise
        self._is_over = True
        self._finished.put_nowait(None)  # for others who wait for a row
        self.summary = await self._going
        raise_for_stop(self.summary)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Start no more calls, and return when those in flight are written. Idempotent."""
        self._is_over = True
        if self._going is None or self._going.done():
            return
        self._going.cancel()
        try:
            await asyncio.wait([self._going])
        except asyncio.CancelledError:
            self._going.cancel()
            await asyncio.wait([self._going])
            raise
        if not self._going.cancelled():
            self._going.result()  # raises what went wrong

    def __del__(self) -> None:
        """Start no more calls when the rows are dropped."""
        if self._going is not None and not self._going.done():
            with suppress(RuntimeError):  # the event loop is closed
                self._going.get_loop().call_soon_threadsafe(self._going.cancel)


_under_way: set[asyncio.Task[Summary]] = set()
"""References to runs whose rows were dropped: the event loop itself holds tasks weakly."""


async def _sent(jobs: Jobs, config: RunConfig, finished: "_Finished", *, progress: bool) -> Summary:
    async with _sending(jobs, config, finished.observe, progress=progress) as (sending, out):
        finished.out = out
        return await asyncio.shield(sending)


@asynccontextmanager
async def _sending(
    jobs: Jobs, config: RunConfig, observe: Observer, *, progress: bool
) -> AsyncIterator[tuple[asyncio.Task[Summary], Path]]:
    """Yield a run that sends, and its output folder; drain it when the block is left early."""
    # Keys and tables are files. A cancelled run leaves their reading to its thread.
    try:
        settings = await asyncio.to_thread(config.settings)
    except ConfigError as error:
        raise type(error)(as_options(str(error))) from error
    with ExitStack() as stack:
        if isinstance(jobs, str | PathLike):
            path, name, base = Path(jobs), None, None
            out = working_folder(config.out, config.scratch, path, is_simulated=config.simulate)
        else:
            if not config.out:
                raise ConfigError(
                    "out: jobs that are no manifest need a folder of their own: RunConfig(out=…)"
                )
            with storage_errors("there is no folder for temporary files; set TMPDIR"):
                temporary = tempfile.TemporaryDirectory(prefix="gemini_batch-")
            folder = stack.enter_context(temporary)
            path, name, base = Path(folder, "jobs.jsonl"), NAME, Path()
            out = working_folder(config.out, config.scratch, path, is_simulated=False)
            await write_jobs(jobs, path)
        view = None
        if progress:
            info = RunInfo(name or str(path), "the same call of run", "gemini_batch")
            view = stack.enter_context(watching(info, settings))
            observe = partial(_observe_both, observe, view.observe)
        opening = setup.open_run(path, out, settings, observe, name=name, base=base)
        # Not a task: the end of the event loop would cancel it, but not the thread.
        checking = asyncio.get_running_loop().run_in_executor(None, stack.enter_context, opening)
        going = await _to_its_end(checking)
        async with served(settings) as base_url:
            sending = asyncio.create_task(_send(going, base_url, view), name="send")
            try:
                yield sending, going.out
            finally:
                if not sending.done():
                    going.interrupt(_CANCELLED)
                    await _to_its_end(sending, lambda: going.interrupt(_CANCELLED))


async def _send(going: Run, base_url: str, view: View | None) -> Summary:
    if view is None:
        summary = await going.send(base_url)
    else:
        async with sampled(going, view):
            summary = await going.send(base_url)
        view.end(summary)
    _log.info("%s", messages.ended(summary))
    return summary


def _observe_both(first: Observer, second: Observer, event: Event) -> None:
    first(event)
    second(event)


def _log_event(event: Event) -> None:
    """Log what the user has to know as a warning, and progress as information."""
    match event:
        case RunStarted():
            _log.info("%s", " · ".join(messages.started("run", event)))
        case CallFinished(row):
            _log.info("%s: %s in %.1f s", row.id, row.status.value, row.latency_s)
        case CallRetrying():
            _log.info("%s: is sent again: %s", event.call_id, event.message)
        case CallNotReused() | CallHeld() | ModelReplaced():
            _log.warning("%s", event.message)
        case Repaired() | LedgerNotice() | ManifestWarning() | BatchNotice():
            _log.warning("%s", event.message)
        case Stopping():
            _log.warning("%s", event.stop.message)
        case _:
            pass


async def _to_its_end(
    work: "asyncio.Future[T]", when_cancelled: Callable[[], object] = lambda: None
) -> T:
    """Return the result of some work, but not before its end, however often this is cancelled."""
    is_cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            is_cancelled = True
            when_cancelled()
    result = work.result()  # raises what went wrong
    if is_cancelled:
        raise asyncio.CancelledError
    return result


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[str]:
    """Yield the base URL; for `simulate`, of a simulator that runs as long as the block."""
    if settings.base_url is not None:
        yield settings.base_url
        return
    from gemini_batch.simulator import Simulator, SimulatorConfig

    limits = asdict(settings.limits)
    del limits["usd_per_day"]  # unknown to the simulator
    vertex = settings.vertex
    config = SimulatorConfig(tier="unlimited", vertex=vertex is not None, **limits)
    async with Simulator(config) as simulator:
        yield simulator.base_url if vertex is None else vertex.base_url(simulator.base_url)


class _Finished(asyncio.Queue[int | None]):
    """Places of the rows of finished calls: one number each in memory; None at the end of the run.

    Attributes:
        out: The output folder, once the run is under way.
    """

    out = Path()

    def observe(self, event: Event) -> None:
        _log_event(event)
        if isinstance(event, CallFinished):
            self.put_nowait(event.offset_bytes)

    def end(self, _going: object) -> None:
        self.put_nowait(None)


def _row_at(out: Path, place: int) -> Result:
    if (found := row_at(out, place)) is None:
        raise StorageError(
            f"{out / RESULTS}: the row at byte {place:,} is gone: the file was changed"
        )
    return result_of(row_of(found), out)
