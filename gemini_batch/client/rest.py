"""Small requests to the API next to `generateContent`, and their answers as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import aiohttp
import orjson
from yarl import URL

from gemini_batch.client.api_error import parse_error, parse_nested
from gemini_batch.client.body_decoder import decoded
from gemini_batch.client.connection_errors import (
    connection_failure,
    describe_connection_error,
    describe_refusal,
)
from gemini_batch.client.headers import location_host, retry_after_s
from gemini_batch.client.no_answer import not_an_answer
from gemini_batch.client.redaction import MAX_SEARCHED_BYTES, KeyRedactor
from gemini_batch.client.session import key_headers, open_session, with_key
from gemini_batch.client.timeouts import StallTimeout
from gemini_batch.client.untrusted_json import load, one_line
from gemini_batch.client.upload import StreamedBody, Upload
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.errors import out_of_resources
from gemini_batch.records import Answer, ApiError, Failure, FailureKind

# What is longer is not searched for the key; no answer of these methods is.
MAX_BODY_BYTES = MAX_SEARCHED_BYTES
# Of the library's: no connection was made, so nothing was sent.
_NOT_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole answer of any status; its headers may hold a secret."""

    answer: Answer
    headers: Mapping[str, str] = field(repr=False)


class RestSession:
    """Connections to one server for `Files` and `Batches`. Use it as an async context manager.

    The key goes to this server alone, and is redacted wherever the server repeats it.

    Attributes:
        http: For streams; it sends no key of its own.
    """

    http: aiohttp.ClientSession

    def __init__(self, config: Settings, base_url: str, clock: Clock) -> None:
        self.config = config
        self.base_url = base_url
        self.clock = clock
        self.redactor = KeyRedactor(config.api_key)

    async def __aenter__(self) -> Self:
        self.http = open_session(self.config)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.http.close()

    async def request(
        self, method: str, url: str, value: Any = None, headers: Mapping[str, str] | None = None
    ) -> RestAnswer | Failure:
        """Send a request once; `value` is its JSON. No redirect is followed.

        Cancellation: the server may have received the request.
        """
        body = None if value is None else json_body(value)
        return await self.send(method, with_key(url, self.config), body, headers)

    async def delete(self, url: str) -> ApiError | Failure | None:
        """Delete what a URL names; None if it is deleted, or was not there.

        Cancellation: the request may have arrived.
        """
        value = parsed(await self.request("DELETE", url))
        is_gone = isinstance(value, ApiError) and value.http_status == 404
        return value if isinstance(value, ApiError | Failure) and not is_gone else None

    async def send(
        self,
        method: str,
        url: URL,
        body: StreamedBody | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        has_key: bool = True,
    ) -> RestAnswer | Failure:
        """Send a request once, as `request` does, to a URL that is never shown.

        Time that passes while `body` is sent does not count.
        """
        headers = (key_headers(self.config) if has_key else {}) | dict(headers or {})
        response: aiohttp.ClientResponse | None = None
        try:
            async with StallTimeout(self.config.timeouts.whole_s) as stall:
                if body is not None:
                    body.on_block = stall.renew
                response = await self.http.request(
                    method, url, data=body, headers=headers, allow_redirects=False
                )
                return RestAnswer(await self.read(response), response.headers)
        except (aiohttp.ClientError, OSError) as error:  # a TimeoutError as well
            return self.failure(error, body)
        finally:
            if response is not None:
                response.release()

    async def read(self, response: aiohttp.ClientResponse) -> Answer:
        """Return an answer with the start of its body, without the key.

        Raises:
            aiohttp.ClientError: The connection broke before the body of a success was whole.
        """
        body, is_success = bytearray(), 200 <= response.status < 300
        try:
            while len(body) < MAX_BODY_BYTES and (chunk := await response.content.readany()):
                body += chunk
        except (aiohttp.ClientError, OSError):
            if is_success:
                raise  # else the status is enough; a cut body only shortens the message
        encoding = response.headers.get("Content-Encoding", "")
        return Answer(
            response.status,
            self.redactor.redact(decoded(bytes(body), encoding, MAX_BODY_BYTES)),
            (),
            retry_after_s(response.headers.get("Retry-After"), self.clock.utc()),
            self.redactor.redact_text(location_host(response)),
        )

    def failure(self, error: Exception, body: StreamedBody | None = None) -> Failure:
        """Return why there is no answer; nothing that is sent here is billed at once."""
        timeouts = self.config.timeouts
        is_connected = body.has_started if body else not isinstance(error, _NOT_CONNECTED)
        if body is not None and body.changed:
            kind, message = FailureKind.INPUT_CHANGED, body.changed
        elif shortage := out_of_resources(error):
            kind, message = FailureKind.STORAGE, shortage
        elif isinstance(error, TimeoutError) and not is_connected:
            kind = FailureKind.UNREACHABLE
            message = f"no connection to {self.base_url} within {timeouts.connect_s:g} s"
        elif isinstance(error, TimeoutError):
            kind, message = FailureKind.TIMEOUT, f"no answer within {timeouts.whole_s:g} s"
        elif not is_connected:
            kind, message = connection_failure(error, self.base_url, self.config.proxy)
        elif refusal := describe_refusal(error):
            kind, message = FailureKind.MALFORMED, f"the answer can't be read: {refusal}"
        else:
            detail = describe_connection_error(error)
            kind = FailureKind.DISCONNECTED
            message = f"the connection broke before the answer was complete: {detail}"
        return Failure(kind, one_line(self.redactor.redact_text(message)), may_be_billed=False)


def json_body(value: Any) -> Upload:
    """Return a request's body."""
    return Upload((orjson.dumps(value),), lambda: None)


def parsed(answer: RestAnswer | Failure) -> dict[str, Any] | ApiError | Failure:
    """Return the JSON object of an answer, or why it has none; an error in a 200 is an error.

    An operation that ended with an error is not an error itself: it has a name.
    """
    if isinstance(answer, Failure):
        return answer
    found = answer.answer
    if not 200 <= found.http_status < 300:
        return parse_error(found)
    if not found.body.strip():
        return {}
    value = load(found.body)
    if isinstance(value, dict) and ("name" in value or "error" not in value):
        return value
    nested = parse_nested(found, value) if isinstance(value, dict) else None
    return nested or replace(not_an_answer(value), may_be_billed=False)
