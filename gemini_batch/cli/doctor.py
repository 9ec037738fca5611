"""`doctor`: show what a run would use, and ask the server for the model; costs nothing."""

import asyncio
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from gemini_batch.cli.options import print_result, run_config
from gemini_batch.config import Settings, keys, network
from gemini_batch.engine.advice import advised
from gemini_batch.engine.retry import decide
from gemini_batch.errors import ExitCode
from gemini_batch.quota.limits import LimitSet
from gemini_batch.quota.storage import state_path
from gemini_batch.records import ApiError, Failure, Stop

# A shorter key would be known by its end.
_MIN_KEY_CHARS = 16


def main(options: Namespace) -> int:
    """Print what a run with these flags would use; return the exit code."""
    config = run_config(options).settings()
    base_url = config.base_url or config.endpoint
    problem = asyncio.run(_problem(config, base_url))
    key, proxy = keys.find_key(), config.proxy
    limits = [bound.label for bound in LimitSet.of(config.limits).all if bound.limit is not None]
    found: dict[str, Any] = {
        "key": {"ends_with": _end(key.value), "source": key.source},
        "endpoint": base_url,
        "proxy": {"host": proxy.host, "variable": proxy.variable} if proxy else None,
        "certificates": [f"{name}={path}" for name, path in network.ca_paths()],
        "tier": config.tier,
        "limits": limits,
        "ledger": str(state_path()),
        "model": config.model,
        "problem": problem,
    }
    print_result(found, _lines(found), as_json=options.json)
    return ExitCode.REFUSED if problem else ExitCode.DONE


async def _problem(config: Settings, base_url: str) -> str | None:
    """Return the reason why a run with these settings could not send a call; None if it could."""
    from gemini_batch.client.probe import probe  # `--help` needs no aiohttp

    error: ApiError | Failure | None = await probe(config, base_url)
    if error is None:
        return None
    decision = decide(error, 1, lambda: 0.0)
    if isinstance(decision, Stop):
        return advised(Stop(decision.reason, decision.message, model=config.model)).message
    return error.message


def _end(key: str) -> str:
    return key[-4:] if len(key) >= _MIN_KEY_CHARS else ""


def _lines(found: dict[str, Any]) -> Iterator[str]:
    key, proxy = found["key"], found["proxy"]
    named = f"{proxy['host']}, from {proxy['variable']}" if proxy else None
    why = None if named else network.why_direct(found["endpoint"])
    yield f"key           …{key['ends_with']}, from {key['source']}"
    yield f"server        {found['endpoint']}"
    yield f"proxy         {named or f'none: {why}'}"
    yield f"certificates  {', '.join(['those of the system', *found['certificates']])}"
    yield f"tier          {found['tier']}: {', '.join(found['limits']) or 'no limits'}"
    yield f"ledger        {found['ledger']}"
    yield f"model         {found['model']}: {found['problem'] or 'the server knows it'}"
