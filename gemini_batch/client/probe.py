"""Probe of a server: whether it is reached, accepts the key, and knows a model."""

import asyncio

import aiohttp

from gemini_batch.client import request_json
from gemini_batch.client.api_error import parse_error
from gemini_batch.client.connection_errors import connection_failure
from gemini_batch.client.headers import location_host
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.client.session import open_session, with_key
from gemini_batch.client.untrusted_json import as_dict, load
from gemini_batch.config import Settings
from gemini_batch.records import Answer, ApiError, Failure, FailureKind

PROBE_S = 30.0
_MAX_BODY_BYTES = 1 << 16


async def probe(config: Settings, base_url: str) -> ApiError | Failure | None:
    """Ask for the model of the settings by `models.get`, which costs nothing; None if all is well.

    Cancellation: safe.
    """
    url = with_key(request_json.model_url(base_url, config.model), config)
    redactor = KeyRedactor(config.api_key)
    try:
        async with (
            asyncio.timeout(PROBE_S),
            open_session(config) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            body = redactor.redact(await response.content.read(_MAX_BODY_BYTES))
            host = redactor.redact_text(location_host(response))
    except (aiohttp.ClientError, OSError) as error:  # a TimeoutError as well
        kind, message = connection_failure(error, base_url, config.proxy)
        return Failure(kind, redactor.redact_text(message), may_be_billed=False)
    if response.status != 200:
        return parse_error(Answer(response.status, body, redirects_to=host))
    if not as_dict(load(body)).get("name"):
        message = f"{base_url} answers, and not as the Gemini API does: check --base-url"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)
    return None
