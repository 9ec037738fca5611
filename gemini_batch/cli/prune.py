"""`prune`: move the pictures that are no longer in the manifest to `superseded/`."""

import sys
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from gemini_batch.cli.confirm import is_confirmed
from gemini_batch.cli.options import print_result
from gemini_batch.cli.viewing import checked_folder
from gemini_batch.engine.distributed.handover import at_rest
from gemini_batch.engine.prune import Unlisted, manifest_of, prune, unlisted
from gemini_batch.engine.recovery import recover
from gemini_batch.errors import ConfigError, ExitCode, storage_errors
from gemini_batch.output.paths import SUPERSEDED
from gemini_batch.progress.formatting import count, plain

_LISTED = 20


def main(options: Namespace) -> int:
    """Move what is no longer in the manifest, if the user agrees; return the exit code."""
    if isinstance(options.out, str):
        raise ConfigError(
            f"{options.out}: pictures in a bucket can't be pruned: those of calls that the "
            "manifest has no more stay there"
        )
    out = checked_folder(options.out)
    with storage_errors(f"{out}: can't be pruned"):
        manifest = options.manifest or manifest_of(out)
        with at_rest(out) as folders:
            for folder in folders.values():
                for repaired in recover(folder):
                    print(plain(repaired), file=sys.stderr)  # noqa: T201
            calls = unlisted(out, manifest)
            if calls.ids and not _is_agreed(options, calls):
                return ExitCode.STOPPED
            for number, ids in calls.by_part.items():
                prune(folders[number], ids)
    found = {
        "out": str(out),
        "manifest": str(manifest),
        "calls": calls.ids,
        "pictures": calls.pictures,
        "size_bytes": calls.size_bytes,
    }
    print_result(found, _lines(found, is_new=options.yes), as_json=options.json)
    return ExitCode.DONE


def _is_agreed(options: Namespace, calls: Unlisted) -> bool:
    """Return whether to move; without a terminal and `--yes` the process exits with 2."""
    if options.yes:
        return True
    for line in _named(calls.ids):
        print(plain(line), file=sys.stderr)  # noqa: T201
    found = f"{count(len(calls.ids), 'call')}, {_pictures(calls.pictures, calls.size_bytes)}"
    agreed = is_confirmed(f"Move what is no longer in the manifest: {found}?")
    if agreed is None:
        options.parser.fail(f"{found} would be moved to {SUPERSEDED}/; add --yes to move them")
    if not agreed:
        print("nothing was moved", file=sys.stderr)  # noqa: T201
    return bool(agreed)


def _lines(found: dict[str, Any], *, is_new: bool) -> Iterator[str]:
    if not found["calls"]:
        yield f"{found['out']}: nothing to move; each call has its line in {found['manifest']}"
        return
    calls = count(len(found["calls"]), "call")
    moved = _pictures(found["pictures"], found["size_bytes"])
    yield f"{found['out']}: {calls} pruned, {moved} moved to {SUPERSEDED}/"
    if is_new:
        yield from _named(found["calls"])


def _named(ids: list[str]) -> Iterator[str]:
    yield from (f"  {call_id}" for call_id in ids[:_LISTED])
    if (more := len(ids) - _LISTED) > 0:
        yield f"  and {count(more, 'more call')}; --json lists them"


def _pictures(number: int, size_bytes: int) -> str:
    return f"{count(number, 'picture')} of {size_bytes / 1_000_000:.1f} MB"
