"""Start of a worker: nothing of an older generation runs, and nothing is left in its folders.

One worker starts at a time. What a run with another number of workers had in flight, answers that
had arrived included, and its open batches move into the folders of the workers who own these calls
now. A folder that nothing is left in is sealed. After a kill at any point the next worker does the
rest, before it sends anything.
"""

import fcntl
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from gemini_batch.engine.recovery import PAID_AGAIN, possibly_billed, recover
from gemini_batch.errors import FlagsError, FolderBusyError, RowsLostError, storage_errors
from gemini_batch.events import Observer, Repaired
from gemini_batch.output import OutputFolder, inflight
from gemini_batch.output.batches import hand_over
from gemini_batch.output.files import fsync_all, open_regular, write_atomically
from gemini_batch.output.lock import holder
from gemini_batch.output.paths import (
    ADOPTED,
    COUNTED_BY,
    PRIVATE,
    RESULTS,
    SEALED,
    SHARDS,
    START_LOCK,
    has_batches,
)
from gemini_batch.output.shards import Generation, Part, generations, parts
from gemini_batch.output.staging import copy_journaled
from gemini_batch.records.shard import Shard, owner

_NEW = "new-"


@contextmanager
def entered(
    out: Path,
    shard: Shard,
    observe: Observer,
    *,
    forgets: bool = False,
    ledger: str = "",
    budget: str = "",
) -> Iterator[OutputFolder]:
    """Yield the folder of a worker, locked; `forgets` takes a missing one as new.

    `ledger` names the one that counts the quota, "" for none, and `budget` the run whose budget it
    counts, "" for none.

    Raises:
        FlagsError: Other workers count in another ledger.
        FolderBusyError: The worker runs already, or one of another generation does.
        RowsLostError: The folder of a worker is gone.
        StorageError: The disk refused, or an older folder is damaged.
    """
    with ExitStack() as stack:
        with storage_errors(f"{out / SHARDS}: can't be written"), starting(out):
            generation = _generation(out, shard.count)
            for part in _older(out, generation):
                _take_over(part, generation, observe)
            folder = OutputFolder(generation.folder(shard.index))
            if not folder.out.is_dir() and not forgets:
                raise _gone(folder.out)
            stack.enter_context(folder.locked())
            if ledger:
                _check_ledger(generation, shard, ledger, budget)
        yield folder


def _check_ledger(generation: Generation, shard: Shard, ledger: str, budget: str) -> None:
    """Raise a FlagsError if a worker that runs, or one of the same budget, counts elsewhere."""
    path = generation.path / COUNTED_BY
    noted, noted_budget = "", ""
    with suppress(OSError, ValueError):
        noted, noted_budget = path.read_text(encoding="utf-8").split("\n")[:2]
    if noted not in {"", ledger}:
        others = (generation.folder(each.index) for each in generation.parts if each != shard)
        if (budget and budget == noted_budget) or any(
            each.is_dir() and holder(each) for each in others
        ):
            raise FlagsError(
                f"--shard: other workers count quota and budget in another ledger ({noted}), and "
                "all of it would be used up twice: give all of them the same one, with --ledger or "
                "GEMINI_BATCH_LEDGER"
            )
    write_atomically(path, f"{ledger}\n{budget or noted_budget}\n".encode(), durable=True)


@contextmanager
def at_rest(out: Path) -> Iterator[dict[int, OutputFolder]]:
    """Yield a folder and those of its workers, locked, by the numbers of their parts.

    Of workers only the folders with rows are among them, and none can start in the block.

    Raises:
        FolderBusyError: A run holds one of them.
        StorageError: It can't be written.
    """
    with ExitStack() as stack:
        if not generations(out):
            folder = OutputFolder(out)
            stack.enter_context(folder.locked())
            yield {0: folder}
            return
        stack.enter_context(starting(out))
        found = {part.number: OutputFolder(part.path) for part in parts(out) if part.is_used}
        for folder in found.values():
            stack.enter_context(folder.locked())
        yield found


@contextmanager
def starting(out: Path) -> Iterator[None]:
    """Wait until no other worker starts, and keep others from starting in the block."""
    (out / SHARDS).mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = open_regular(out / SHARDS / START_LOCK, flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _generation(out: Path, count: int) -> Generation:
    """Return the newest generation if it has `count` workers, else a new one."""
    found = generations(out)
    if found and found[-1].count == count:
        if len(found) > 1 and found[-2].number == found[-1].number:
            raise FolderBusyError(
                f"{found[-1].path}: another generation has this number; the file system of {out} "
                "has no file locks, which keep workers apart: choose another with --out"
            )
        return found[-1]
    for part in parts(out):
        check_free(part, count)
    number = found[-1].number + 1 if found else 1
    new = Generation(number, count, out / SHARDS / f"{_NEW}{number:04}.{count}")
    with suppress(FileNotFoundError):
        shutil.rmtree(new.path)  # of a worker that was killed before it began
    for shard in new.parts:
        new.folder(shard.index).mkdir(parents=True)
    fsync_all([new.path])
    path = new.path.with_name(new.path.name.removeprefix(_NEW))
    new.path.rename(path)
    fsync_all([path.parent, out])
    return Generation(number, count, path)


def _older(out: Path, generation: Generation) -> Iterator[Part]:
    """Yield the folders of older generations in which something may be left."""
    for part in parts(out):
        is_older = part.generation is None or part.generation < generation
        if is_older and (part.path / PRIVATE).is_dir() and not is_sealed(part):
            yield part


def is_sealed(part: Part) -> bool:
    """Return whether a newer generation has taken over all that was left in a folder."""
    return (part.path / PRIVATE / SEALED).exists()


def check_free(part: Part, count: int) -> None:
    """Raise a FolderBusyError if a worker of another generation runs."""
    if is_sealed(part) or not part.path.is_dir():
        return
    if (process := holder(part.path)) is None:
        return
    workers = part.shard.count if part.shard else 0
    run = f"worker {part.shard} runs there ({process})" if part.shard else f"a run ({process})"
    advice = f", or run with --shard I/{workers}" if workers else ""
    raise FolderBusyError(
        f"{part.path}: {run}; to continue with {count} workers, wait for it{advice}"
    )


def _take_over(part: Part, generation: Generation, observe: Observer) -> None:
    """Recover an older folder, move what is left in it to its new owners, and seal it."""
    folder = OutputFolder(part.path)
    with folder.locked():
        pass_on(part, folder, recovered(folder, observe), generation)


def recovered(folder: OutputFolder, observe: Observer) -> dict[str, str]:
    """Recover a locked folder for the last time; return what it had in flight, as by its log."""
    for message in recover(folder):
        observe(Repaired(message, pays=message.endswith(PAID_AGAIN)))
    return possibly_billed(folder)


def pass_on(
    part: Part, folder: OutputFolder, in_flight: Mapping[str, str], generation: Generation
) -> None:
    """Move what is left in a recovered folder to its new owners, and seal it."""
    moved: defaultdict[int, dict[str, str]] = defaultdict(dict)
    for call_id, request_sha256 in in_flight.items():
        moved[owner(call_id, generation.count)][call_id] = request_sha256
    for index, calls in moved.items():
        _move_calls(folder, OutputFolder(generation.folder(index)), calls)
    if has_batches(part.path):
        (generation.path / ADOPTED).touch()
        fsync_all([generation.path])
        hand_over(part, lambda uuid: generation.folder(owner(uuid, generation.count)))
    _seal(folder, generation)
    folder.remove_staged_files()
    inflight.forget(folder.private)


def _move_calls(folder: OutputFolder, to: OutputFolder, calls: dict[str, str]) -> None:
    """Copy the answers that had arrived, and then note what was in flight, for the new owner."""
    with to.locked():
        for call_id in calls:
            if (answer := folder.journaled_answer(call_id)) is not None:
                copy_journaled(answer, to.incoming)
        inflight.add(to.private, calls)


def _seal(folder: OutputFolder, generation: Generation) -> None:
    text = f"taken over by {generation.path.name}\n"
    write_atomically(folder.private / SEALED, text.encode(), durable=True, mode=0o600)
    fsync_all([folder.private])


def _gone(path: Path) -> RowsLostError:
    return RowsLostError(
        f"{path}: the folder of this worker is gone, and with it its {RESULTS}: its calls would be "
        "sent, and paid for, again; nothing was sent\n"
        "put it back, from where it was moved or from a backup, and run again; or, to send and pay "
        "for them, add --forget"
    )
