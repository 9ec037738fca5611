"""The ledger of a run, and the budget that its workers share; both are opened before it sends."""

import hashlib
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.config import Settings
from gemini_batch.errors import LedgerError
from gemini_batch.events import LedgerNotice, Observer, Repaired
from gemini_batch.output.joined import joined, note_joined
from gemini_batch.records import Stop
from gemini_batch.records.stop import stop_of

if TYPE_CHECKING:  # a run with nothing to do needs no quota
    from gemini_batch.quota.shared import SharedLedger
    from gemini_batch.quota.shared_budget import SharedBudget


def ledger_of(config: Settings, out: Path, observe: Observer) -> "SharedLedger":
    """Return the ledger of a run, not yet open; a server that is waited for is reported."""
    from gemini_batch.quota.shared import SharedLedger
    from gemini_batch.quota.storage import MemoryStorage, shared_storage

    in_memory = config.ledger is None and config.base_url is None

    def say(text: str) -> None:
        observe(LedgerNotice(text))

    storage = MemoryStorage() if in_memory else shared_storage(config.ledger, say=say)
    return SharedLedger(
        storage,
        config.limits,
        endpoint=config.endpoint,
        project=_project(config),
        run_name=f"process {os.getpid()}, {out}",
    )


def shared_budget(config: Settings, ledger: "SharedLedger") -> "SharedBudget | None":
    """Return the budget of the workers of a run, not yet joined; None if there is none."""
    if config.shard is None or config.max_cost_usd is None or not config.run_id:
        return None
    from gemini_batch.quota.shared_budget import SharedBudget

    return SharedBudget(
        ledger.storage,
        config.max_cost_usd,
        run_id=config.run_id,
        shard=str(config.shard),
        endpoint=config.endpoint,
        project=_project(config),
    )


def join(
    ledger: "SharedLedger",
    budget: "SharedBudget | None",
    observe: Observer,
    *,
    out: Path,
    folder: Path,
    is_open: bool,
) -> Stop | None:
    """Open the ledger of a run and join its budget; return a stop if that can't be done now.

    `folder` is that of this worker in the output folder `out`.

    Raises:
        StorageError: The file of this machine can't be used.
        ConfigError: The server refuses, or a newer version wrote it.
    """
    try:
        if not is_open:
            ledger.storage.open()
            for notice in ledger.notices:
                observe(Repaired(notice))
        if budget is not None:
            budget.join(joined(out, budget.run_id) if ledger.blocks else ())
            note_joined(folder, budget.run_id)
    except LedgerError as error:
        return stop_of(error)
    return None


def counted_on(config: Settings) -> str:
    """Return which ledger counts quota and budget, without its password; "" of a simulator."""
    if config.base_url is None:
        return ""
    if config.ledger is not None:
        address = config.ledger.rpartition("@")[2].partition("?")[0]
        digest = hashlib.sha256(address.encode()).hexdigest()
        return f"a shared ledger, {digest[:12]}"
    from gemini_batch.quota.storage import state_path

    return f"that of {platform.node()}, {state_path()}"


def _project(config: Settings) -> str:
    """Return the project whose quota is used, as the ledger names it."""
    if config.vertex and not config.quota_scope:
        return config.vertex.name
    from gemini_batch.quota.shared import project_of

    return project_of(config.api_key, config.quota_scope)
