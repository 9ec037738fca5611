"""Blocking set-up of a run. Sends no requests."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.config import Settings
from gemini_batch.engine.entering import begins_generation, entered, restore, viewed
from gemini_batch.engine.ledger import join, ledger_of, shared_budget
from gemini_batch.engine.recovery import (
    PAID_AGAIN,
    Interrupted,
    accept_loss,
    lost_rows,
    possibly_billed,
    recover,
)
from gemini_batch.engine.session import Run
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ConfigError, RowsLostError, storage_errors
from gemini_batch.events import ManifestWarning, Observer, Repaired, SafeObserver
from gemini_batch.output import OutputFolder
from gemini_batch.output.moved import MovedNote
from gemini_batch.output.paths import IMAGES, RESULTS, SHARDS
from gemini_batch.output.shards import has_results, parts
from gemini_batch.plan.build import build_plan
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.wording import local_time

if TYPE_CHECKING:  # a run with nothing to do needs no quota
    from gemini_batch.quota.shared import SharedLedger


@contextmanager
def open_run(
    path: Path,
    out: Path,
    config: Settings,
    observe: Observer,
    ledger: "SharedLedger | None" = None,
    *,
    name: str | None = None,
    base: Path | None = None,
) -> Iterator[Run]:
    """Lock and repair the output folder, check the manifest, and plan.

    `observe` gets every event of the run. Without `ledger`, the quota's is the one that all runs of
    this machine share, or a new one in memory for the embedded simulator. `name` replaces the
    manifest's path in messages and in the summary; `base` replaces its folder, where relative paths
    of images start.

    The ledger is opened by `send`, because a server may have to be waited for.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        FolderBusyError: Another run holds the folder.
        StorageError: The folder can't be written, or what is in it is damaged.
        RowsLostError: Calls would be paid for again because their rows are gone.
        ConfigError: This Python can't name files as a manifest may, or certificates can't be used.
    """
    if (encoding := sys.getfilesystemencoding()) not in {"utf-8", "utf8"}:
        raise ConfigError(
            f"file system encoding is {encoding}, so some ids cannot be used as file names; set "
            "PYTHONUTF8=1"
        )
    observe = SafeObserver(observe)
    _check_before_workers(path, out, config, name, base)
    with entered(out, config, observe) as (folder, bucket):
        interrupted = _repair(folder, observe)
        if bucket is not None:
            restore(bucket, folder, observe)
        with ExitStack() as stack:
            view = stack.enter_context(viewed(out, folder, bucket, config))
            planned = stack.enter_context(build_plan(path, view, config, name=name, base=base))
            has_work = bool(planned.plan.todo or planned.history.waiting)
            has_work = has_work or (bucket is not None and bucket.is_behind)
            decides = config.adopts_images or config.forgets_rows
            moved = _moved_note(config, out) if has_work or decides else None
            with storage_errors(f"{out}: can't be repaired"):
                _check_rows(folder, view, planned, config, moved)
            planned.save()
            is_open = ledger is not None
            if has_work and ledger is None:
                ledger = stack.enter_context(ledger_of(config, out, observe))
            notices = config.notices if planned.plan.to_send else ()
            for warning in (*notices, *planned.warnings()):
                observe(ManifestWarning(warning))
            if has_work:
                config = config.to_send()
                # Before any thread or request: an import that finds no memory later ends badly.
                import_module("gemini_batch.client.interactive")
                import_module("gemini_batch.engine.sending")
                if config.vertex and config.base_url:
                    import_module("gemini_batch.client.google_tokens")
            shared = shared_budget(config, ledger) if ledger and planned.plan.to_send else None
            run = Run(
                name or str(path),
                config,
                folder,
                planned,
                ledger,
                observe,
                interrupted,
                shared,
                bucket,
            )
            if ledger is not None:
                run.join = partial(
                    join, ledger, shared, observe, out=out, folder=folder.out, is_open=is_open
                )
            try:
                yield run
            finally:
                if moved is not None and run.summary is not None:
                    _note_move(moved, run.summary)


def _check_before_workers(
    path: Path, out: Path, config: Settings, name: str | None, base: Path | None
) -> None:
    """Check the manifest before workers begin: a run without them would be refused afterwards.

    Raises:
        ManifestError: Lines of the manifest are wrong, and what else `build_plan` raises.
    """
    if begins_generation(out, config):
        with build_plan(path, out, config, name=name, base=base):
            pass


def _repair(folder: OutputFolder, observe: Observer) -> Interrupted:
    """Finish what a killed run left, and report it; return what it had in flight."""
    with storage_errors(f"{folder.out}: can't be repaired"):
        repaired = recover(folder)
        unanswered = possibly_billed(folder)
        journaled = frozenset(call_id for call_id in unanswered if folder.journaled_answer(call_id))
    for message in repaired:
        observe(Repaired(message, pays=message.endswith(PAID_AGAIN)))
    if billed := [call_id for call_id in unanswered if call_id not in journaled]:
        names = ", ".join(billed[:10]) + (", …" if len(billed) > 10 else "")
        calls = "1 call was" if len(billed) == 1 else f"{len(billed):,} calls were"
        observe(
            Repaired(f"{calls} sent by a run that was killed, and may have been billed: {names}")
        )
    return Interrupted(unanswered, journaled)


def _note_move(moved: MovedNote, summary: Summary) -> None:
    """Note for the next run that the rows of this one are not where it would look for them."""
    ended, sent = sum(summary.by_status.values()), summary.this_run.sent
    if ended or sent:
        counts = f"{ended:,} calls had ended and {sent:,} requests were sent"
        at = local_time(summary.ended_at)
        moved.write(f"was moved or removed during the run that ended {at}, when {counts}")


def _check_rows(
    folder: OutputFolder,
    out: Path,
    planned: BuiltPlan,
    config: Settings,
    moved: MovedNote | None,
) -> None:
    """Check that no call is sent only because its row is gone, unless the user knows.

    Raises:
        RowsLostError: Rows are gone, or images have none, and calls must be sent.
        OSError: The disk refused.
    """
    lost = lost_rows(folder, is_workers=bool(config.shard)) or _lost_elsewhere(out, folder)
    to_send = planned.plan.to_send
    if not lost and moved is not None and (text := moved.read()):
        lost = f"{out}: {text}"
    if config.adopts_images or config.forgets_rows:
        if lost:
            accept_loss(folder)
        if moved is not None:
            moved.remove()
        return
    without_row = planned.history.without_row
    if not to_send or not (lost or without_row):
        return
    found = lost or f"{folder.out / RESULTS}: rows are gone"
    calls = "1 call" if to_send == 1 else f"{to_send:,} calls"
    images = "1 has its image" if without_row == 1 else f"{without_row:,} have their images"
    raise RowsLostError(
        f"{found}: {calls} would be sent, and paid for, of which {images} in "
        f"{folder.out / IMAGES}; nothing was sent\n"
        "put it back, from where it was moved or from a backup, and run again; or, to take "
        "the images that are there as done, add --adopt-images; or, to send and pay for all of "
        "them, add --forget"
    )


def _lost_elsewhere(out: Path, own: OutputFolder) -> str:
    """Return a sentence about rows that another worker's folder once had; "" if none is gone."""
    last = 0
    for part in parts(out):
        if part.generation is None:
            continue
        if part.generation.number > last + 1:
            return f"{out / SHARDS}: generation {last + 1} is gone"
        last = part.generation.number
        if not part.path.is_dir():
            return f"{part.path}: is gone"
        if part.path != own.out and (lost := lost_rows(OutputFolder(part.path), is_workers=True)):
            return lost
    return ""


def _moved_note(config: Settings, out: Path) -> MovedNote | None:
    if config.base_url is None or config.bucket is not None:
        return None
    from gemini_batch.quota.storage import state_path

    return MovedNote(state_path().parent, out, has_results if config.shard else None)
