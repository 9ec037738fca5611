"""`run`: send what is not done yet."""

import resource
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    suppress,
)
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.cli.confirm import is_agreed, with_decision, with_stale
from gemini_batch.cli.given import Given, given_manifest
from gemini_batch.cli.options import output_folder, program, settings
from gemini_batch.config import Settings
from gemini_batch.engine import setup
from gemini_batch.engine.session import Run
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import (
    ConfigError,
    ExitCode,
    NoKeyError,
    RowsLostError,
    out_of_resources,
    storage_errors,
)
from gemini_batch.plan.build import build_plan
from gemini_batch.progress.formatting import count, plain
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.watch import sampled, watching
from gemini_batch.records import Stop, StopReason

if TYPE_CHECKING:  # a run with nothing to do sends nothing, and needs no event loop
    import asyncio

# A call in flight takes a connection and two files.
_FILES_A_CALL, _OTHER_FILES = 3, 64


def main(options: Namespace) -> int:
    """Run a manifest; return the exit code."""
    out = output_folder(options)
    if options.metrics and not options.metrics.parent.is_dir():
        raise ConfigError(f"--metrics: {options.metrics.parent}: there is no such folder")
    with given_manifest(options) as manifest:
        return _run(options, manifest, out)


def _run(options: Namespace, manifest: Given, out: Path) -> int:
    config = _settings(options, manifest, out)
    import shlex

    again = f"{program()} {shlex.join(options.argv)}"
    about = RunInfo(manifest.name, again, program(), is_quiet=options.quiet)
    with watching(about, config, log_format=options.log_format) as view:
        config = _within_open_files(config, view)
        with ExitStack() as stack:
            run = stack.enter_context(_opened(manifest, out, config, view))
            view.flush()
            if (decided := with_stale(options, config, run.planned.stale)) is not None:
                stack.close()
                config = decided
                run = stack.enter_context(_opened(manifest, out, config, view))
                view.flush()
            if not is_agreed(options, config, run.planned, str(config.bucket or out)):
                text = plain(f"nothing was sent; to send it: {again} --yes")
                print(text, file=sys.stderr)  # noqa: T201
                return ExitCode.STOPPED
            summary = _sent(run, config, view)
        view.end(summary)
    if options.metrics:
        _write_metrics(options.metrics, summary)
    if options.json:
        with suppress(BrokenPipeError):
            sys.stdout.write(summary.json().decode())
    return summary.exit_code


def _settings(options: Namespace, manifest: Given, out: Path) -> Settings:
    """Return the settings; without a key, problems of the manifest come before that."""
    try:
        return settings(options)
    except NoKeyError:
        config = settings(options, needs_key=False)
        with build_plan(manifest.path, out, config, name=manifest.name, base=manifest.base):
            pass
        raise


@contextmanager
def _opened(manifest: Given, out: Path, config: Settings, view: View) -> Iterator[Run]:
    """Yield the run; where rows are gone, ask on a terminal what to do."""
    opening = partial(setup.open_run, manifest.path, out, name=manifest.name, base=manifest.base)
    with ExitStack() as stack:
        try:
            run = stack.enter_context(opening(config, view.observe))
        except RowsLostError as error:
            view.flush()
            decided = with_decision(config, str(error))
            if decided is None:
                raise
            run = stack.enter_context(opening(decided, view.observe))
        yield run


def _sent(run: Run, config: Settings, view: View) -> Summary:
    if not run.has_work:
        return run.end_at_once()
    import asyncio

    from gemini_batch.cli.thumbnails import drawn_ahead

    try:
        with drawn_ahead(run.out, config):
            return asyncio.run(_send(run, config, view))
    except (asyncio.CancelledError, KeyboardInterrupt, RuntimeError) as error:
        # Closing the loop takes one more thread, and waits for threads that hang: all is done.
        is_bug = isinstance(error, RuntimeError) and not out_of_resources(error)
        if run.summary is None or is_bug:
            raise
        return run.summary


async def _send(run: Run, config: Settings, view: View) -> Summary:
    import asyncio

    from gemini_batch.cli.signals import interrupting

    def on_error(_loop: "asyncio.AbstractEventLoop", context: dict[str, Any]) -> None:
        """Write one line instead of the loop's traceback, which may hold the key."""
        error = context.get("exception")
        if message := out_of_resources(error) if error else "":
            run.stop(Stop(StopReason.STORAGE, message))
        else:
            view.warn(f"{context['message']}: {type(error).__name__}")

    asyncio.get_running_loop().set_exception_handler(on_error)
    with interrupting(run):
        async with _server(config) as base_url, sampled(run, view):
            return await run.send(base_url)


def _server(config: Settings) -> AbstractAsyncContextManager[str]:
    """Return a context with the base URL; for `--simulate`, with a simulator."""
    if config.base_url is not None:
        return nullcontext(config.base_url)
    from gemini_batch.api import served

    return served(config)


def _write_metrics(path: Path, summary: Summary) -> None:
    from gemini_batch.output.files import write_atomically
    from gemini_batch.progress.metrics import rendered

    with storage_errors(f"{path}: can't be written"):
        write_atomically(path, rendered(summary).encode(), durable=False, mode=0o644)


def _within_open_files(config: Settings, view: View) -> Settings:
    """Raise the limit of open files if it is too low, and lower the concurrency to what it allows.

    macOS starts with 256.
    """
    wanted = _FILES_A_CALL * config.concurrency + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    with suppress(OSError, ValueError):  # the present limit must do
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed >= wanted:
        return config
    concurrency = max(1, (allowed - _OTHER_FILES) // _FILES_A_CALL)
    view.warn(
        f"{allowed:,} files may be open (ulimit -n): at most {count(concurrency, 'call')} in flight"
    )
    return replace(config, concurrency=concurrency)
