"""`quota`: the use of each window, what is left, and when it frees."""

import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.cli.options import print_note, print_result
from gemini_batch.clock import utc_now
from gemini_batch.config.environment import base_url, vertex
from gemini_batch.config.keys import find_key
from gemini_batch.config.ledger_url import ledger
from gemini_batch.errors import ExitCode, GeminiBatchError
from gemini_batch.progress.formatting import plain, quantity
from gemini_batch.quota.results import UNKNOWN, Used
from gemini_batch.quota.run_budget import is_budget
from gemini_batch.quota.shared import project_of
from gemini_batch.quota.status import QuotaStatus, statuses
from gemini_batch.quota.storage import LOOK_S, LedgerStorage, shared_storage
from gemini_batch.quota.storage.base import QuotaKey
from gemini_batch.wording import local_time


def main(options: Namespace) -> int:
    """Print the use of each quota, or forget it; return the exit code."""
    url = ledger(options.ledger)
    with closing(shared_storage(url, reach_s=LOOK_S, say=print_note)) as storage:
        return _main(options, storage, is_shared=url is not None)


def _main(options: Namespace, storage: LedgerStorage, *, is_shared: bool) -> int:
    path = storage.name
    # A path of the environment may be no UTF-8, which JSON can't hold.
    name = os.fsencode(path).decode(errors="backslashreplace")
    found: dict[str, Any] = {"ledger" if is_shared else "file": name}
    if options.reset:
        project = _project() if is_shared and options.project is None else options.project
        names = _reset(storage, project)
        found["deleted"] = names or []
        lines = [] if names is None else [f"{path}: deleted", *(f"  {name}" for name in names)]
    else:
        quotas = statuses(storage, utc_now())
        found["quotas"] = [_as_json(status) for status in quotas]
        lines = [line for status in quotas for line in _lines(status)]
    nothing = "nothing to delete" if options.reset else "no quota used yet"
    print_result(found, lines or [f"{nothing}; the ledger is {path}"], as_json=options.json)
    return ExitCode.DONE


def _project() -> str:
    """Return the project of the environment: those of others in a shared ledger stay."""
    project = vertex(None)
    return project_of(find_key().value) if project is None else project.name


def _reset(storage: LedgerStorage, project: str | None) -> list[str] | None:
    """Forget all, or one project at the endpoint that a run would use; None: there was nothing."""
    # The name of a project of Vertex AI has its location, and so one endpoint.
    is_of_any = project is None or "/" in project
    owner = (None if is_of_any else base_url(None), project)
    try:
        keys = [*storage.scan().states]
    except GeminiBatchError:
        if project is not None:
            raise
        # This is the way to get rid of it.
        return ["a file that could not be read"] if storage.clear() else None
    found = [key for key in keys if key.is_of(*owner) and not is_budget(key)]
    if not any(map(is_budget, keys)):
        return [*map(_name, found)] if storage.clear(*owner) else None
    # Runs in progress rely on their budgets.
    for endpoint, owned in {(key.endpoint, key.project) for key in found}:
        storage.clear(endpoint, owned)
    return [*map(_name, found)] or None


def _name(key: QuotaKey) -> str:
    return plain(f"{key.model} · {key.endpoint} · {key.project}")


def _lines(status: QuotaStatus) -> Iterator[str]:
    yield _name(status.key)
    if status.paused_s:
        yield f"  paused until {_moment(status, status.paused_s)}: {status.paused_why}"
    if status.is_day_closed:
        yield "  today: closed by the server"
    for used in status.used:
        bound = used.bound
        if used.left is not None:
            amount = "unknown" if used.used >= UNKNOWN else quantity(bound, used.used)
            line = f"  {bound.label:<28} {amount:>12} used {quantity(bound, used.left):>12} left"
            if used.frees_in_s:
                frees = "resets" if bound.span == "a day" else "all free"
                line += f"   {frees} {_moment(status, used.frees_in_s)}"
            yield line


def _moment(status: QuotaStatus, after_s: float) -> str:
    return local_time(status.at + timedelta(seconds=after_s), seconds=True)


def _as_json(status: QuotaStatus) -> dict[str, Any]:
    is_paused = status.paused_s > 0
    return {
        "endpoint": status.key.endpoint,
        "project": status.key.project,
        "model": status.key.model,
        "paused_until": status.at + timedelta(seconds=status.paused_s) if is_paused else None,
        "paused_why": status.paused_why if is_paused else None,
        "is_day_closed": status.is_day_closed,
        "limits": [_limit_as_json(used, status.at) for used in status.used],
    }


def _limit_as_json(used: Used, utc: datetime) -> dict[str, Any]:
    """Return one limit; dollars are in `usd`, and unknown values are null."""
    bound, limit = used.bound, used.bound.limit
    return {
        "of": "usd" if bound.of == "usd_micros" else bound.of,
        "span": bound.span,
        "limit": None if limit is None else bound.value(limit),
        "used": None if used.used >= UNKNOWN else bound.value(used.used),
        "left": None if used.left is None else bound.value(used.left),
        "frees_at": utc + timedelta(seconds=used.frees_in_s) if used.frees_in_s else None,
    }
