"""One request to `generateContent`, and its answer as it streams in."""

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Self

import aiohttp

from gemini_batch.client import request_json
from gemini_batch.client.api_error import parse_error
from gemini_batch.client.body_decoder import decoded
from gemini_batch.client.connection_errors import (
    connection_failure,
    describe_connection_error,
    describe_refusal,
)
from gemini_batch.client.credentials import Redactor, is_expired
from gemini_batch.client.fairness import LoopBudget
from gemini_batch.client.headers import location_host, retry_after_s
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.receiver import Receiver
from gemini_batch.client.redaction import MAX_SEARCHED_BYTES, redacted
from gemini_batch.client.service_tier import SERVED_HEADER, tier_fields, tier_headers
from gemini_batch.client.session import credentials_for, open_session, with_key
from gemini_batch.client.timeouts import StallTimeout
from gemini_batch.client.transport import AnswerSink, Exchange
from gemini_batch.client.upload import Upload
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.errors import describe_os_error, out_of_resources
from gemini_batch.records import Answer, Call, Failure, FailureKind, Timing

MAX_ERROR_BODY_BYTES = MAX_SEARCHED_BYTES
MAX_MESSAGE_CHARS = 500
# An answer that still arrives when its time is over is not cut off, because it is paid for, if it
# brought this much. On a line that 128 answers share, that is next to nothing.
MIN_PROGRESS_BYTES = 1 << 16
# Silence that ends the rest of an answer which can't be used.
REST_S = 5.0


class _DiskError(Exception):
    """The disk failed. A disk's `OSError` could be mistaken for one of the connection."""


class InteractiveTransport:
    """Sends calls over one pool of connections. Use it as an async context manager.

    The key goes into a header or into the query, a token into a header, and neither into a log, an
    error or a row: if a server echoes it, it is redacted, however it is spelled.
    """

    def __init__(self, config: Settings, base_url: str, clock: Clock) -> None:
        self._config = config
        self._base_url = base_url
        self._clock = clock
        self._credentials = credentials_for(config, clock)
        self._loop_budget = LoopBudget()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session(self._config)
        try:
            # Before the first permit. What goes wrong is said to the first call.
            await self._credentials.headers()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._credentials.close()
        if self._session is not None:
            await self._session.close()

    @property
    def _redactor(self) -> Redactor:
        return self._credentials.redactor

    async def send(
        self, call: Call, sink: AnswerSink, on_connected: Callable[[], object] = lambda: None
    ) -> Exchange:
        """Send the call once; see `Transport.send`."""
        sent_at, started_s = self._clock.utc(), self._clock.steady_s()
        answer = await self._allowed_exchange(call, sink, on_connected)
        timing = Timing(sent_at, self._clock.utc(), self._clock.steady_s() - started_s)
        return Exchange(answer, timing)

    async def _allowed_exchange(
        self, call: Call, sink: AnswerSink, on_connected: Callable[[], object]
    ) -> Answer | Failure:
        """Send a call; once more where the server no longer accepts the token."""
        fields = tier_fields(call.request, self._base_url)
        may_renew = True
        while True:
            allowed = await self._credentials.headers()
            if isinstance(allowed, Failure):
                return allowed
            upload = Upload(request_json.body(call.request, fields), on_connected)
            answer = await self._exchange(call, upload, sink, allowed)
            if not (may_renew and self._is_over(answer, allowed)):
                return answer
            may_renew = False

    def _is_over(self, answer: Answer | Failure, allowed: Mapping[str, str]) -> bool:
        """Return whether the server no longer accepts the token, but may accept another."""
        if not isinstance(answer, Answer) or answer.http_status != 401:
            return False
        return is_expired(parse_error(answer)) and self._credentials.refuse(allowed)

    async def _exchange(
        self, call: Call, upload: Upload, sink: AnswerSink, allowed: Mapping[str, str]
    ) -> Answer | Failure:
        if self._session is None:
            raise RuntimeError("the transport is used outside its `async with`")
        url = with_key(request_json.url(self._base_url, call.request.model), self._config)
        response: aiohttp.ClientResponse | None = None
        whole_s = self._config.timeouts.whole_of(call.request.service_tier)
        # The server ends with a 504 when the client would have given up.
        headers = {"X-Server-Timeout": str(math.ceil(whole_s)), **allowed}
        headers |= tier_headers(call.request, self._base_url)
        whole = StallTimeout(whole_s, enough_bytes=MIN_PROGRESS_BYTES)
        try:
            async with whole:
                response = await self._session.post(
                    url, data=upload, headers=headers, allow_redirects=False
                )
                if 200 <= response.status < 300:
                    return await self._receive(response, sink, whole)
                return await self._error(response)
        except MalformedAnswerError as error:
            message = error.redacted(self._redactor.redact_text)
            return self._failure(error.kind, message, may_be_billed=True)
        except _DiskError as error:
            message = f"the answer can't be written: {error}"
            return self._failure(FailureKind.STORAGE, message, may_be_billed=True)
        except TimeoutError:
            return self._timed_out(upload, whole_s)
        except (aiohttp.ClientError, OSError) as error:
            return self._disconnected(error, upload)
        finally:
            if response is not None:
                response.release()

    async def _receive(
        self, response: aiohttp.ClientResponse, sink: AnswerSink, whole: StallTimeout
    ) -> Answer:
        receiver = Receiver(sink, response.headers.get("Content-Encoding", ""))
        sink.keepable(redacted(receiver.body(), self._redactor.redact))
        try:
            # Some servers send the headers, and white space, at once: until then the model draws.
            while not receiver.has_begun and await self._receive_chunk(
                response, receiver, sink, whole
            ):
                pass
            async with StallTimeout(self._config.timeouts.between_bytes_s) as between:
                while not receiver.is_done:
                    between.renew()
                    if not await self._receive_chunk(response, receiver, sink, whole):
                        break
        except (TimeoutError, aiohttp.ClientError):
            if not (receiver.is_closed or receiver.cut_off()):
                raise  # else all that began to arrive, or the picture, is whole
        except asyncio.CancelledError:
            if not (whole.is_over and (receiver.is_closed or receiver.cut_off())):
                raise
        await self._set_rest_aside(response, receiver, whole)
        envelope = self._redactor.redact(receiver.finish())
        sink.journal(envelope)
        wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utc())
        try:
            tier = response.headers.get(SERVED_HEADER)
            return Answer(response.status, envelope, sink.arrived(), wait_s, service_tier=tier)
        except OSError as error:
            raise _DiskError(describe_os_error(error)) from error

    def _journal_picture(self, receiver: Receiver, sink: AnswerSink) -> None:
        """Save the picture of an answer whose end has not arrived: a kill would lose it."""
        if (cut := receiver.cut_off(is_end=False)) is not None:
            sink.journal(self._redactor.redact(cut), is_whole=False)

    async def _receive_chunk(
        self,
        response: aiohttp.ClientResponse,
        receiver: Receiver,
        sink: AnswerSink,
        whole: StallTimeout,
    ) -> bool:
        """Receive what comes next of a body; return False at its end."""
        images = receiver.whole_images
        chunk = await _next_chunk(response.content)
        whole.received(len(chunk))
        await self._feed(receiver, chunk)
        if receiver.whole_images > images and not receiver.is_done:
            self._journal_picture(receiver, sink)
        return bool(chunk)

    async def _feed(self, receiver: Receiver, chunk: bytes) -> None:
        try:
            for _ in receiver.feed(chunk, is_last=not chunk):
                await self._loop_budget.acquire()
        except OSError as error:
            raise _DiskError(describe_os_error(error)) from error

    async def _set_rest_aside(
        self, response: aiohttp.ClientResponse, receiver: Receiver, whole: StallTimeout
    ) -> None:
        """Read on where an answer can't be parsed: it may hold an image that was paid for."""
        if receiver.error is None:
            return
        try:
            async with StallTimeout(min(REST_S, self._config.timeouts.between_bytes_s)) as between:
                while receiver.has_room and (chunk := await _next_chunk(response.content)):
                    between.renew()
                    await self._feed(receiver, chunk)
        except (TimeoutError, aiohttp.ClientError):
            pass
        except asyncio.CancelledError:
            if not whole.is_over:
                raise

    async def _error(self, response: aiohttp.ClientResponse) -> Answer:
        body = bytearray()
        try:
            async with StallTimeout(self._config.timeouts.between_bytes_s):
                while len(body) < MAX_ERROR_BODY_BYTES and (
                    chunk := await response.content.readany()
                ):
                    body += chunk
        except (TimeoutError, aiohttp.ClientError):
            pass  # the status is enough; a cut body only shortens the message
        wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utc())
        host = self._redactor.redact_text(location_host(response))
        encoding = response.headers.get("Content-Encoding", "")
        text = self._redactor.redact(decoded(bytes(body), encoding, MAX_ERROR_BODY_BYTES))
        return Answer(response.status, text, (), wait_s, host)

    def _failure(self, kind: FailureKind, message: str, *, may_be_billed: bool) -> Failure:
        message = self._redactor.redact_text(message)
        # The library's own texts can have many lines, and quote what the server sent.
        return Failure(kind, " ".join(message.split())[:MAX_MESSAGE_CHARS], may_be_billed)

    def _timed_out(self, upload: Upload, whole_s: float) -> Failure:
        timeouts = self._config.timeouts
        if not upload.has_started:
            proxy = self._config.proxy
            way = f" through the proxy {proxy.host} that {proxy.variable} names" if proxy else ""
            message = f"no connection to {self._base_url}{way} within {timeouts.connect_s:g} s"
            return self._failure(FailureKind.UNREACHABLE, message, may_be_billed=False)
        message = (
            f"no complete answer: nothing for {timeouts.between_bytes_s:g} s, "
            f"or not complete after {whole_s:g} s"
        )
        return self._failure(FailureKind.TIMEOUT, message, may_be_billed=upload.may_be_whole)

    def _disconnected(self, error: Exception, upload: Upload) -> Failure:
        if upload.changed:
            return self._failure(FailureKind.INPUT_CHANGED, upload.changed, may_be_billed=False)
        if shortage := out_of_resources(error):
            return self._failure(FailureKind.STORAGE, shortage, may_be_billed=False)
        if not upload.has_started:
            kind, message = connection_failure(error, self._base_url, self._config.proxy)
            return self._failure(kind, message, may_be_billed=False)
        if refusal := describe_refusal(error):
            message = f"the answer can't be read: {refusal}"
            may_be_billed = upload.may_be_whole
            return self._failure(FailureKind.MALFORMED, message, may_be_billed=may_be_billed)
        detail = describe_connection_error(error)
        message = f"the connection broke before the answer was complete: {detail}"
        return self._failure(FailureKind.DISCONNECTED, message, may_be_billed=upload.may_be_whole)


async def _next_chunk(content: aiohttp.StreamReader) -> bytes:
    """Return what arrived of a body, b"" at its end.

    Includes what arrived just before the connection broke: the answer may be complete in it.

    Cancellation: safe.

    Raises:
        aiohttp.ClientError: The connection broke, and nothing is left to read.
    """
    try:
        return await content.readany()
    except aiohttp.ClientError as error:
        # The library hands out nothing more once it has an error.
        content.set_exception(None)  # type: ignore[arg-type]
        rest = content.read_nowait()
        content.set_exception(error)
        if not rest:
            raise
        return rest
