"""Probe of a server: whether it is reached, accepts key or login, and knows a model."""

import asyncio

import aiohttp
from yarl import URL

from gemini_batch.client import request_json
from gemini_batch.client.api_error import parse_error
from gemini_batch.client.connection_errors import connection_failure
from gemini_batch.client.headers import location_host
from gemini_batch.client.session import credentials_for, open_session, with_key
from gemini_batch.client.untrusted_json import as_dict, load
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.records import Answer, ApiError, Failure, FailureKind

PROBE_S = 30.0
_MAX_BODY_BYTES = 1 << 16
_COUNTED = {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}


async def probe(config: Settings, base_url: str) -> ApiError | Failure | None:
    """Ask for the model of the settings, which costs nothing; None if all is well.

    The Gemini API by `models.get`; Vertex AI by `countTokens`, which project and location have to
    allow as they do `generateContent`.

    Cancellation: safe.
    """
    model_url = request_json.model_url(base_url, config.model)
    if config.vertex is None:
        method, url, body, expected = "GET", with_key(model_url, config), None, "name"
    else:
        method, url, body = "POST", URL(f"{model_url}:countTokens", encoded=True), _COUNTED
        expected = "totalTokens"
    credentials = credentials_for(config, Clock())
    headers = await credentials.headers()
    if isinstance(headers, Failure):
        return headers
    redactor = credentials.redactor
    try:
        async with (
            asyncio.timeout(PROBE_S),
            open_session(config) as session,
            session.request(
                method, url, json=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            found = redactor.redact(await response.content.read(_MAX_BODY_BYTES))
            host = redactor.redact_text(location_host(response))
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ClientError):
            message = f"{base_url} does not answer within {PROBE_S:g} s"
            return Failure(FailureKind.TIMEOUT, message, may_be_billed=False)
        kind, message = connection_failure(error, base_url, config.proxy)
        return Failure(kind, redactor.redact_text(message), may_be_billed=False)
    if response.status != 200:
        return parse_error(Answer(response.status, found, redirects_to=host))
    if not as_dict(load(found)).get(expected):
        message = f"{base_url} answers, but not like the Gemini API: check --base-url"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)
    return None
