"""`run`: send what is not done yet."""

import asyncio
import resource
import shlex
import signal
import sys
from argparse import Namespace
from contextlib import suppress
from dataclasses import replace
from typing import Any

from gemini_batch.api import served
from gemini_batch.cli.confirm import is_agreed
from gemini_batch.cli.options import output_folder, program, run_config
from gemini_batch.config import Settings
from gemini_batch.engine import setup
from gemini_batch.engine.session import Run
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode, out_of_resources
from gemini_batch.progress import count, plain
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.watch import sampled, watching
from gemini_batch.records import Stop, StopReason

_STOP_OF_SIGNAL = {
    signal.SIGINT: Stop(StopReason.INTERRUPTED, "interrupted"),
    signal.SIGTERM: Stop(StopReason.TERMINATED, "asked to end"),
    signal.SIGHUP: Stop(StopReason.TERMINATED, "the terminal was closed"),
}
# `timeout`, and a terminal that is closed, signal a whole group: whoever passes the signal on in it makes two of one.
_ONE_SIGNAL_S = 1.0
# A call in flight takes a connection and two files.
_FILES_A_CALL, _OTHER_FILES = 3, 64


def main(options: Namespace) -> int:
    """Run a manifest; return the exit code."""
    config, out = run_config(options).settings(), output_folder(options)
    again = f"{program()} {shlex.join(options.argv)}"
    about = RunInfo(str(options.manifest), again, program(), is_quiet=options.quiet)
    with watching(about, config, log_format=options.log_format) as view:
        config = _within_open_files(config, view)
        with setup.prepared(options.manifest, out, config, view.observe) as run:
            view.flush()
            if not is_agreed(options, config, run.planned.plan):
                print(plain(f"nothing was sent; to send it: {again} --yes"), file=sys.stderr)  # noqa: T201 # words for the person
                return ExitCode.STOPPED
            summary = _sent(run, config, view)
        view.end(summary)
    if options.json:
        with suppress(BrokenPipeError):
            sys.stdout.write(summary.json().decode())
    return summary.exit_code


def _sent(run: Run, config: Settings, view: View) -> Summary:
    try:
        return asyncio.run(_send(run, config, view))
    except (KeyboardInterrupt, RuntimeError) as error:
        # To close a loop takes one thread more, and waits for those that hang; all that was to be done is done by then.
        if run.summary is None or not (
            isinstance(error, KeyboardInterrupt) or out_of_resources(error)
        ):
            raise
        return run.summary


async def _send(run: Run, config: Settings, view: View) -> Summary:
    """Send with the signals at work: the first one drains, the second abandons what is in flight.

    Of two signals within a second the later one is the first once more, unless somebody pressed Ctrl-C twice.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    first_s: float | None = None
    pressed = 0

    def on_signal(received: signal.Signals) -> None:
        nonlocal first_s, pressed
        pressed += received == signal.SIGINT
        if first_s is None:
            first_s = loop.time()
            run.stop(_STOP_OF_SIGNAL[received])
        elif task is not None and (pressed > 1 or loop.time() - first_s > _ONE_SIGNAL_S):
            task.cancel()

    def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say in a line what the loop would print with a traceback, which may hold the key; whoever waits for it learns of it too."""
        error = context.get("exception")
        if words := out_of_resources(error) if error else "":
            run.stop(Stop(StopReason.STORAGE, words))
        else:
            view.warn(f"{context['message']}: {type(error).__name__}")

    loop.set_exception_handler(on_error)
    # `nohup` has hang-ups ignored, and so they stay.
    heard = [
        each
        for each in _STOP_OF_SIGNAL
        if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN
    ]
    for each in heard:
        loop.add_signal_handler(each, on_signal, each)
    try:
        async with served(config) as base_url, sampled(run, view):
            return await run.send(base_url)
    except asyncio.CancelledError:
        if run.summary is None:
            raise
        return run.summary
    finally:
        for each in heard:
            loop.remove_signal_handler(each)


def _within_open_files(config: Settings, view: View) -> Settings:
    """Raise this process's limit of open files as far as it may (macOS begins with 256), and have no more in flight than it then allows."""
    wanted = _FILES_A_CALL * config.concurrency + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    with suppress(OSError, ValueError):  # then what may be open now must do
        resource.setrlimit(
            resource.RLIMIT_NOFILE,
            (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard),
        )
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if allowed >= wanted:
        return config
    concurrency = max(1, (allowed - _OTHER_FILES) // _FILES_A_CALL)
    view.warn(
        f"{allowed:,} files may be open (ulimit -n): no more than {count(concurrency, 'call')} in flight"
    )
    return replace(config, concurrency=concurrency)
