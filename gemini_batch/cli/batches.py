"""`batches`: list the open batches of an output folder, and end them."""

import asyncio
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.cli.options import print_result, settings
from gemini_batch.errors import ConfigError, ExitCode, storage_errors
from gemini_batch.output.open_batches import described, held, line_of, marked, read_open_batches
from gemini_batch.output.paths import has_batches
from gemini_batch.output.shards import parts
from gemini_batch.wording import usd

if TYPE_CHECKING:  # the list needs no server
    from gemini_batch.config import Settings
    from gemini_batch.engine.batch.cancel import Cancelled
    from gemini_batch.output.waiting import OpenBatch

_ENDINGS = {
    "asked": "cancelled; it may still answer some of its calls",
    "ended": "has ended already",
    "given up": "was made with another key, and is given up; what it answers may be billed",
    "not found": "is not known to the server now; each run looks for it again",
}


def main(options: Namespace) -> int:
    """Print the open batches of a folder, or cancel them; return the exit code."""
    out: Path = options.out
    if isinstance(options.out, str):
        raise ConfigError(
            f"{options.out}: a bucket has no batches: runs that write into one make none; name the "
            "output folder of a run with --route batch or auto"
        )
    if not out.is_dir():
        raise ConfigError(f"{out}: is not a folder; name the output folder of a run")
    if options.cancel:
        return _cancel(options, out)
    batches = read_open_batches(out)
    print_result(_found(out, batches), _lines(out, batches), as_json=options.json)
    return ExitCode.DONE


def _found(out: Path, batches: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "out": str(out),
        "waiting": sum(each["waiting"] for each in batches),
        "committed_usd": round(sum(each["committed_usd"] or 0.0 for each in batches), 6),
        "batches": batches,
    }


def _lines(out: Path, batches: list[dict[str, Any]]) -> Iterator[str]:
    if not batches:
        yield f"{out}: no open batches"
        return
    total = _found(out, batches)
    wait = "1 call waits" if total["waiting"] == 1 else f"{total['waiting']:,} calls wait"
    number = "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
    yield f"{out}: {wait} in {number}, about {usd(total['committed_usd'])}"
    for batch in batches:
        yield f"  {line_of(batch)}"


def _cancel(options: Namespace, out: Path) -> int:
    """Cancel what this key sees at this server; print what became of each batch."""
    config = settings(options).to_send()
    ended: list[Cancelled] = []
    elsewhere: list[OpenBatch] = []
    for folder in [part.path for part in parts(out) if has_batches(part.path)] or [out]:
        ended_there, elsewhere_there = _cancel_in(folder, out, config)
        ended += ended_there
        elsewhere += elsewhere_there
    rows = [
        {
            **described(each.batch),
            "ending": each.ending.value,
            "error": each.error and each.error.message,
        }
        for each in ended
    ]
    rows += [{**described(each), "ending": "elsewhere", "error": None} for each in elsewhere]
    print_result({"out": str(out), "batches": rows}, _endings(out, rows), as_json=options.json)
    return _exit_code(ended, has_others=bool(elsewhere))


def _cancel_in(
    folder: Path, out: Path, config: "Settings"
) -> tuple[list["Cancelled"], list["OpenBatch"]]:
    """Cancel the batches of one folder; return what became of them, and those of other servers."""
    from gemini_batch.output import OutputFolder

    with (
        OutputFolder(folder).locked(),
        storage_errors(f"{folder}: can't be written"),
        closing(marked(out)) as waiting,
    ):
        batches = [each for each in held(waiting) if each.folder == folder]
        here = [each for each in batches if each.note.endpoint in ("", config.endpoint)]
        elsewhere = [each for each in batches if each not in here]
        return (asyncio.run(_ended(config, folder, here)) if here else []), elsewhere


async def _ended(config: "Settings", out: Path, batches: list["OpenBatch"]) -> list["Cancelled"]:
    from gemini_batch.client.batches import Batches
    from gemini_batch.client.rest import RestSession
    from gemini_batch.clock import Clock
    from gemini_batch.engine.batch.cancel import Canceller
    from gemini_batch.output.batches import BatchNotes
    from gemini_batch.quota.shared import project_of

    clock = Clock()
    async with RestSession(config, config.endpoint, clock) as session:
        with closing(BatchNotes(out)) as notes:
            project = project_of(config.api_key, config.quota_scope)
            canceller = Canceller(
                batches=Batches(session), notes=notes, clock=clock, project=project
            )
            return await canceller.cancel(batches)


def _endings(out: Path, rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield f"{out}: no open batches"
        return
    for row in rows:
        name = row["name"] or row["display_name"]
        if row["ending"] == "elsewhere":
            text = f"was made at {row['endpoint']}; name that server by --base-url"
        else:
            text = _ENDINGS.get(row["ending"]) or f"can't be cancelled: {row['error']}"
        yield f"  {name}  {text}"
    yield "run again to collect what they answered; it then sends the rest"


def _exit_code(ended: list["Cancelled"], *, has_others: bool) -> int:
    """Return the code of what is worst: a refusal that a user must resolve, or a later try."""
    import random

    from gemini_batch.engine import retry
    from gemini_batch.records import Stop

    errors = [each.error for each in ended if each.error is not None]
    stops = [retry.decide(error, 1, random.random) for error in errors]
    codes = [stop.exit_code for stop in stops if isinstance(stop, Stop)]
    if ExitCode.REFUSED in codes:
        return ExitCode.REFUSED
    is_left = has_others or errors or any(each.ending == "not found" for each in ended)
    return ExitCode.STOPPED if is_left else ExitCode.DONE
