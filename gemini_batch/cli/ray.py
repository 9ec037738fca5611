"""`ray`: run a manifest by several workers on a Ray cluster."""

import io
import secrets
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.cli.confirm import is_agreed
from gemini_batch.cli.given import given_manifest
from gemini_batch.cli.options import STDIN, output_folder, program, settings
from gemini_batch.cli.ray_output import Follower, RayOutput
from gemini_batch.cli.signals import STOP_OF_SIGNAL, Signals, handled
from gemini_batch.clock import Clock, utc_now
from gemini_batch.config import Settings
from gemini_batch.engine.distributed.ray_tasks import Ended, RayCluster
from gemini_batch.engine.started import started_run
from gemini_batch.engine.stats import RunStats
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ConfigError, ExitCode, FlagsError, LedgerError
from gemini_batch.events import CallFinished, CallSent, Event, ManifestWarning, RunStarted, Stopping
from gemini_batch.output.row_lines import row_of
from gemini_batch.output.whole_summary import with_rows, worst
from gemini_batch.plan.build import build_plan
from gemini_batch.progress.formatting import plain
from gemini_batch.progress.run_state import Sample
from gemini_batch.progress.view import RunInfo, View
from gemini_batch.progress.watch import watching
from gemini_batch.records import ResultRow, Status

_LOOK_S = 0.5
# Flags that are for this process, and whether a value follows.
_OWN = {
    "--shards": True,
    "--address": True,
    "--run-id": True,
    "--out": True,
    "--log-format": True,
    "--metrics": True,
    "--quiet": False,
    "--json": False,
    "--yes": False,
}


def main(options: Namespace) -> int:
    """Run a manifest on a cluster; return the exit code of the worst worker."""
    if options.manifest == STDIN or options.shard is not None:
        options.parser.fail(
            "ray: needs a manifest that all nodes see, as a file or in a bucket, and chooses "
            "--shard itself"
        )
    config = settings(options, needs_key=False)
    out = RayOutput(config, output_folder(options))
    again = f"{program()} {' '.join(options.argv)}"
    about = RunInfo(str(options.manifest), again, program(), is_quiet=options.quiet)
    with watching(about, config, log_format=options.log_format) as view:
        with (
            given_manifest(options) as given,
            out.viewed() as folder,
            build_plan(given.path, folder.out, config, name=given.name, base=given.base) as planned,
        ):
            if not is_agreed(options, config, planned, out.given):
                return ExitCode.STOPPED
            for warning in (*config.notices, *planned.warnings()):
                view.observe(ManifestWarning(warning))
            started = started_run(planned, config, out.given)
        # Ray prints what its nodes report to stdout, which has the summary alone.
        began_at = utc_now()
        with redirect_stdout(io.StringIO()), RayCluster(options.address) as cluster:
            _check_ledger(cluster, config)
            _look_at_ledger(config, view)
            view.observe(started)
            rows, stats = out.follower(), RunStats(config.limits, Clock())
            cluster.start(_commands(options, out.given), str(Path.cwd()))
            ended = _followed(cluster, view, rows, stats)
        code = worst([each.exit_code for each in ended])
        for each in ended:
            for line in each.lines:
                view.warn(f"worker {each.number + 1}/{options.shards}: {line}")
        summary = _summary(out, code, started, stats, began_at)
        if summary is not None:
            view.end(summary)
    if options.json and summary is not None:
        with suppress(BrokenPipeError):
            sys.stdout.write(summary.json().decode())
    if summary is None:
        text = plain(f"gemini-batch: no worker has written its summary: exit {code}")
        print(text, file=sys.stderr)  # noqa: T201
    return code


def _check_ledger(cluster: RayCluster, config: Settings) -> None:
    """Raise a FlagsError if the nodes are several machines, and each has a ledger of its own."""
    if len(cluster.hosts) > 1 and config.ledger is None and config.base_url is not None:
        raise FlagsError(
            f"ray: the nodes are {len(cluster.hosts)} machines, and each would use up the whole "
            "quota: share it, with GEMINI_BATCH_LEDGER here and in the environment of the nodes"
        )


def _look_at_ledger(config: Settings, view: View) -> None:
    """Report a server that can't be used from here: workers are quiet, and wait for it as well."""
    if config.ledger is None:
        return
    from gemini_batch.quota.storage import LOOK_S, shared_storage

    with closing(shared_storage(config.ledger, reach_s=LOOK_S, say=view.warn)) as storage:
        try:
            storage.open()
        except (ConfigError, LedgerError) as error:
            view.warn(f"{error}; unless the nodes reach it, their workers end with 3 or 5")


def _commands(options: Namespace, out: str) -> list[list[str]]:
    """Return the arguments of each worker: those of this command, and its part."""
    run_id = options.run_id or f"ray-{secrets.token_hex(8)}"
    given = _without_own(options.argv[1:])
    same = ["--out", out, "--run-id", run_id, "--quiet"]
    shards = (f"{number}/{options.shards}" for number in range(1, options.shards + 1))
    return [["run", *given, *same, "--shard", shard] for shard in shards]


def _without_own(arguments: Sequence[str]) -> list[str]:
    found: list[str] = []
    is_value = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if is_value:
            is_value = False
        elif name in _OWN:
            is_value = _OWN[name] and not equals
        else:
            found.append(argument)
    return found


def _followed(cluster: RayCluster, view: View, rows: Follower, stats: RunStats) -> list[Ended]:
    """Show and count the rows of all workers until these have ended; a signal drains them."""
    ended: list[Ended] = []
    with _signals() as received:
        is_draining = False
        while cluster.is_running:
            if received and not is_draining:
                is_draining = True
                view.observe(Stopping(STOP_OF_SIGNAL[received[0]], 0))
                cluster.drain(STOP_OF_SIGNAL[received[0]].exit_code)
            if len(received) > 1:
                break  # a second one: the tasks end with this process
            ended += cluster.ended(_LOOK_S)
            for row in rows.new_rows():
                with suppress(ValueError):  # edited by hand
                    for event in _events(row_of(row)):
                        view.observe(event)
                        stats.observe(event)
            view.update(Sample())
        if received:
            code = STOP_OF_SIGNAL[received[0]].exit_code
            return [*ended, Ended(0, code, ())]
    return ended


def _events(row: ResultRow) -> Iterator[Event]:
    """Yield what a worker did that wrote a row, as far as the row says it."""
    if row.route == "interactive" and row.reused_from is None:
        yield from (CallSent(row.id, number + 1, row.model) for number in range(row.attempts))
    yield CallFinished(row, 0)


@contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Yield the signals that have come, instead of ending the process at one."""
    received, signals = list[signal.Signals](), Signals()

    def receive(number: int, _frame: object) -> None:
        if signals.is_new(signal.Signals(number), time.monotonic()):
            received.append(signal.Signals(number))

    before = {each: signal.signal(each, receive) for each in handled()}
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _summary(
    out: RayOutput, code: int, started: RunStarted, stats: RunStats, began_at: datetime
) -> Summary | None:
    """Write `summary.json` of all workers, and return it; None if none of them has begun.

    The totals are those of the rows of this run, also of workers that were killed and started
    again.
    """
    from pydantic import TypeAdapter

    found: dict[str, Any] = out.read_summary()
    if not found:
        return None
    totals = stats.totals(started.cost_usd)
    found |= with_rows(found, asdict(totals))
    if found["ended_at"] is None:  # a worker has not come as far as to count its calls
        found["left"] = _to_do(started) - totals.finished + totals.by_status.get(Status.FAILED, 0)
        found["calls"] = _to_do(started) + started.done
    found["exit_code"] = code
    found["started_at"] = f"{began_at:%Y-%m-%dT%H:%M:%SZ}"
    if found["ended_at"] is None:
        found["ended_at"] = f"{utc_now():%Y-%m-%dT%H:%M:%SZ}"
    found["duration_s"] = round((utc_now() - began_at).total_seconds(), 3)
    with suppress(ValueError):
        summary = TypeAdapter(Summary).validate_python(found)
        data = orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        out.write_summary(data)
        return summary
    return None


def _to_do(started: RunStarted) -> int:
    """Return the calls of a plan that are not done."""
    others = started.reused + started.waiting + started.later + sum(started.held.values())
    return started.todo + others
