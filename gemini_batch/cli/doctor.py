"""`doctor`: show what a run would use, and ask the server for the model; costs nothing."""

import asyncio
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from gemini_batch.catalog import models
from gemini_batch.cli.options import print_note, print_result, settings
from gemini_batch.config import Settings, google_login, keys, network
from gemini_batch.config.endpoints import is_regional
from gemini_batch.engine.advice import advised
from gemini_batch.engine.error_kinds import ErrorKind, kind_of
from gemini_batch.engine.retry import decide
from gemini_batch.engine.retry_table import TABLE
from gemini_batch.engine.vertex_rules import VERTEX_TABLE
from gemini_batch.errors import ConfigError, ExitCode, LedgerError
from gemini_batch.plan import service_tiers
from gemini_batch.plan.build import price_table
from gemini_batch.quota.limits import LimitSet
from gemini_batch.quota.storage import LOOK_S, shared_storage, state_path
from gemini_batch.records import ApiError, Failure, Stop

# A shorter key would be known by its end.
_MIN_KEY_CHARS = 16


def main(options: Namespace) -> int:
    """Print what a run with these flags would use; return the exit code."""
    config = settings(options).to_send()
    base_url = config.base_url or config.endpoint
    _check_service_tier(config, base_url)
    model, problem = asyncio.run(_asked(config, base_url))
    key = keys.find_key() if config.vertex is None else None
    proxy = config.proxy
    limits = [bound.label for bound in LimitSet.of(config.limits).all if bound.limit is not None]
    ledger, ledger_problem = _ledger(config)
    found: dict[str, Any] = {
        "key": key and {"ends_with": _end(key.value), "source": key.source},
        "login": None if key else _login(),
        "vertex": config.vertex and config.vertex.name,
        "notices": list(config.notices),
        "endpoint": base_url,
        "proxy": {"host": proxy.host, "variable": proxy.variable} if proxy else None,
        "certificates": [f"{name}={path}" for name, path in network.ca_paths()],
        "tier": config.tier,
        "limits": limits,
        "ledger": ledger,
        "ledger_problem": ledger_problem,
        "model": model,
        "replaces": config.model if model != config.model else None,
        "problem": problem,
    }
    print_result(found, _lines(found), as_json=options.json)
    return ExitCode.REFUSED if problem or ledger_problem else ExitCode.DONE


def _ledger(config: Settings) -> tuple[str, str | None]:
    """Return the name of the ledger, and why a server's can't be used; None if it can."""
    if config.ledger is None:
        return str(state_path()), None
    with closing(shared_storage(config.ledger, reach_s=LOOK_S, say=print_note)) as storage:
        try:
            storage.open()
        except (ConfigError, LedgerError) as error:
            return storage.name, str(error).removeprefix(f"{storage.name}: ")
        return storage.name, None


def _check_service_tier(config: Settings, base_url: str) -> None:
    """Check that jobs which name no model and no service tier can be sent.

    Raises:
        ConfigError: The model, or the place that serves it, does not have the service tier.
    """
    prices, regional = price_table(config), is_regional(base_url)
    if why := service_tiers.fault(config.model, config.service_tier, prices, is_regional=regional):
        raise ConfigError(f"--service-tier: {why}")


async def _asked(config: Settings, base_url: str) -> tuple[str, str | None]:
    """Return the model that a run would call, and why that is not possible; None if it is.

    A run replaces a default model that is gone.
    """
    from gemini_batch.client.probe import probe  # `--help` needs no aiohttp

    error: ApiError | Failure | None = await probe(config, base_url)
    successor = None if config.is_model_named else models.successor(config.model)
    if error is not None and kind_of(error) is ErrorKind.NO_MODEL and successor:
        config = replace(config, model=successor)
        error = await probe(config, base_url)
    return config.model, None if error is None else _problem(error, config)


def _problem(error: ApiError | Failure, config: Settings) -> str:
    """Return the message with which a run would stop."""
    table = VERTEX_TABLE if config.vertex else TABLE
    decision = decide(error, 1, lambda: 0.0, table)
    if isinstance(decision, Stop):
        stop = Stop(decision.reason, decision.message, model=config.model)
        return advised(stop, table).message
    return error.message


def _login() -> str:
    """Return where the Google Cloud login comes from."""
    path = google_login.credentials_file()
    return "the metadata server" if path is None else str(path)


def _end(key: str) -> str:
    return key[-4:] if len(key) >= _MIN_KEY_CHARS else ""


def _lines(found: dict[str, Any]) -> Iterator[str]:
    key, proxy, ledger = found["key"], found["proxy"], found["ledger_problem"]
    named = f"{proxy['host']}, from {proxy['variable']}" if proxy else None
    why = None if named else network.why_direct(found["endpoint"])
    if key:
        yield f"key           …{key['ends_with']}, from {key['source']}"
    else:
        yield f"login         Google Cloud, from {found['login']}"
        yield f"project       {found['vertex']}"
        yield from (f"note          {notice}" for notice in found["notices"])
    yield f"server        {found['endpoint']}"
    yield f"proxy         {named or f'none: {why}'}"
    yield f"certificates  {', '.join(['those of the system', *found['certificates']])}"
    yield f"tier          {found['tier']}: {', '.join(found['limits']) or 'no limits'}"
    yield f"ledger        {found['ledger']}" + (f": {ledger}" if ledger else "")
    gone = f" ({found['replaces']} is gone)" if found["replaces"] else ""
    yield f"model         {found['model']}{gone}: {found['problem'] or 'the server knows it'}"
