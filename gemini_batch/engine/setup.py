"""Gets a run ready: what blocks, and sends nothing. `Run.send` is asynchronous and does the rest."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from gemini_batch.config import Settings
from gemini_batch.engine import recovery
from gemini_batch.engine.session import Left, Run
from gemini_batch.errors import ConfigError, StorageError, describe_os_error
from gemini_batch.events import Observer, Repaired, SafeObserver
from gemini_batch.output import OutputFolder
from gemini_batch.plan.build import build_plan
from gemini_batch.quota.shared import SharedLedger, project_of
from gemini_batch.quota.storage import open_storage, state_path


@contextmanager
def prepared(
    path: Path,
    out: Path,
    config: Settings,
    observe: Observer,
    ledger: SharedLedger | None = None,
    *,
    name: str | None = None,
    base: Path | None = None,
) -> Iterator[Run]:
    """Lock and repair the output folder, check the manifest, and plan; sends nothing.

    Args:
        path: The manifest.
        out: The output folder.
        config: The settings.
        observe: Told what happens.
        ledger: Of the quota; None is the one that all runs of this machine share, and one of its own for the embedded simulator.
        name: How messages and the summary name the manifest, if not by its path.
        base: Where relative paths of images start, if not beside the manifest.

    Raises:
        ManifestError: Lines of the manifest are wrong.
        FolderBusyError: Another run holds the folder.
        StorageError: The folder can't be written, or what is in it is damaged.
        ConfigError: This Python can't name files as a manifest may.
    """
    if (encoding := sys.getfilesystemencoding()) not in {"utf-8", "utf8"}:
        raise ConfigError(
            f"Python names files in {encoding} here, and so some ids could name none: set PYTHONUTF8=1"
        )
    store, observe = OutputFolder(out), SafeObserver(observe)
    with store.locked():
        left = _repaired(store, observe)
        with (
            build_plan(path, out, config, name=name, base=base) as plan,
            nullcontext(ledger) if ledger else _opened_ledger(config, observe) as of_quota,
        ):
            yield Run(
                name or str(path), config, store, plan, ledger=of_quota, observe=observe, left=left
            )


def _repaired(store: OutputFolder, observe: Observer) -> Left:
    """Bring to its end what a killed run left, and tell it; return what it had in flight."""
    try:
        repaired = recovery.recover(store)
        unanswered = recovery.possibly_billed(store)
        kept = frozenset(call_id for call_id in unanswered if store.kept_answer(call_id))
    except OSError as error:
        raise StorageError(f"{store.out}: can't be repaired: {describe_os_error(error)}") from error
    for message in repaired:
        observe(Repaired(message))
    if billed := [call_id for call_id in unanswered if call_id not in kept]:
        names = ", ".join(billed[:10]) + (", …" if len(billed) > 10 else "")
        calls = "1 call was" if len(billed) == 1 else f"{len(billed):,} calls were"
        observe(
            Repaired(f"{calls} sent by a run that was killed, and may have been billed: {names}")
        )
    return Left(unanswered, kept)


@contextmanager
def _opened_ledger(config: Settings, observe: Observer) -> Iterator[SharedLedger]:
    project = project_of(config.api_key, config.quota_scope)
    storage = open_storage(None if config.base_url is None else state_path())
    with SharedLedger(storage, config.limits, endpoint=config.endpoint, project=project) as ledger:
        for notice in ledger.notices:
            observe(Repaired(notice))
        yield ledger
