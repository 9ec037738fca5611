"""One request to `generateContent`, and its answer as it streams in."""

import math
import os
import re
from collections.abc import Callable
from typing import Self

import aiohttp
from yarl import URL

from gemini_batch.client import request_json
from gemini_batch.client.fairness import LoopBudget
from gemini_batch.client.headers import location_host, retry_after_s
from gemini_batch.client.image_extractor import ImageExtractor, MalformedAnswerError
from gemini_batch.client.pool import Pool
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.client.timeouts import StallTimeout
from gemini_batch.client.transport import AnswerSink, Exchange
from gemini_batch.client.upload import Upload
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.errors import describe_os_error, out_of_resources
from gemini_batch.records import Answer, Call, Failure, FailureKind, Timing
from gemini_batch.version import __version__

MAX_ERROR_BODY_BYTES = 1 << 20
MAX_MESSAGE_CHARS = 500
# Half of what asyncio reads at once: with the library's own 64 KiB a connection pauses after each read, which costs a tenth of an answer.
READ_BUFFER_BYTES = 1 << 17
# An answer that goes on to come is not cut off when its time is over, for it is paid for: it has to bring so much in each such time, which on a
# line that is shared by 128 answers is next to nothing.
LEAST_BYTES = 1 << 16
# Servers of gateways put more into a header than the library's 8 KiB.
MAX_HEADER_BYTES = 1 << 16


def _nothing() -> None:
    """Tell nobody."""


class _DiskError(Exception):
    """The disk would not take the answer. Its own kind: a disk's `OSError` can look like one of the connection."""


class InteractiveTransport:
    """Sends calls over one pool of connections; use it as an async context manager.

    The key goes into a header or into the query, and never into a log, an error or a row: what a server echoes of it is blacked out,
    also where it stands as JSON, a URL or HTML would write it.
    """

    def __init__(self, config: Settings, base_url: str, clock: Clock) -> None:
        self._config = config
        self._base_url = base_url
        self._clock = clock
        self._redacted = KeyRedactor(config.api_key).redact
        self._loop_budget = LoopBudget()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool; no connection is made yet."""
        # As many connections as calls in flight: nothing waits between a grant and its request.
        connector = Pool(limit=self._config.concurrency, ttl_dns_cache=300, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers(),
            # `connect` is all of the way to a connection, looking the name up included; `sock_connect` would leave that out.
            timeout=aiohttp.ClientTimeout(
                total=None, connect=self._config.timeouts.connect_s, sock_connect=None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self, call: Call, sink: AnswerSink, on_connected: Callable[[], object] = _nothing
    ) -> Exchange:
        """Send the call once and stream the answer's images into `sink`; `on_connected` is told when the request begins to leave.

        Whatever happens on the way is a value: an `Answer` of any status, or a `Failure`. When the answer's JSON closes, this returns
        without giving way to the event loop, so that nothing can come between the last byte and its row.

        Cancellation: the request may have been billed; what arrived of the answer is lost.
        """
        upload = Upload(request_json.body(call.request), on_connected)
        sent_at, started_s = self._clock.utc(), self._clock.steady_s()
        answer = await self._exchange(call, upload, sink)
        timing = Timing(sent_at, self._clock.utc(), self._clock.steady_s() - started_s)
        return Exchange(answer, timing)

    @property
    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the transport is used outside its `async with`")
        return self._session

    async def _exchange(self, call: Call, upload: Upload, sink: AnswerSink) -> Answer | Failure:
        url = URL(request_json.url(self._base_url, call.request.model), encoded=True)
        if self._config.auth == "query":
            url = url.update_query(key=self._config.api_key)
        response: aiohttp.ClientResponse | None = None
        try:
            async with StallTimeout(
                self._config.timeouts.whole_s, enough_bytes=LEAST_BYTES
            ) as patience:
                response = await self._pool.post(url, data=upload, allow_redirects=False)
                return await self._receive(response, sink, patience)
        except MalformedAnswerError as error:
            return self._failure(error.kind, str(error), may_be_billed=True)
        except _DiskError as error:
            return self._failure(
                FailureKind.STORAGE, f"the answer can't be written: {error}", may_be_billed=True
            )
        except TimeoutError:
            return self._timed_out(upload)
        except (aiohttp.ClientError, OSError) as error:
            return self._disconnected(error, upload)
        finally:
            if response is not None:
                response.release()

    async def _receive(
        self, response: aiohttp.ClientResponse, sink: AnswerSink, whole: StallTimeout
    ) -> Answer | Failure:
        if not 200 <= response.status < 300:
            body = await self._error_body(response)
            wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utc())
            host = self._redacted(location_host(response).encode()).decode()
            return Answer(response.status, self._redacted(body), (), wait_s, host)
        sieve = ImageExtractor(sink.open_image)
        async with StallTimeout(self._config.timeouts.between_bytes_s) as between:
            while not sieve.is_whole:
                between.renew()
                chunk = await _next_chunk(response.content)
                if not chunk:
                    break
                whole.took(len(chunk))
                await self._loop_budget.acquire()
                with _disk_errors:
                    sieve.feed(chunk)
        skeleton = self._redacted(sieve.finish())
        sink.journal(skeleton)
        with _disk_errors:
            return Answer(response.status, skeleton, sink.arrived())

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        try:
            async with StallTimeout(self._config.timeouts.between_bytes_s):
                while len(body) < MAX_ERROR_BODY_BYTES and (
                    chunk := await response.content.readany()
                ):
                    body += chunk
        except (TimeoutError, aiohttp.ClientError):
            pass  # the status says enough; a cut body only shortens the message
        return bytes(body[:MAX_ERROR_BODY_BYTES])

    def _headers(self) -> dict[str, str]:
        headers = {
            # gzip would cost three times the CPU and save nothing: images do not compress.
            "Accept-Encoding": "identity",
            "User-Agent": f"gemini_batch/{__version__}",
            # The server gives up, with a 504, when nobody would be there any more to take the answer.
            "X-Server-Timeout": str(math.ceil(self._config.timeouts.whole_s)),
        }
        if self._config.auth == "header":
            headers["x-goog-api-key"] = self._config.api_key
        return headers

    def _failure(self, kind: FailureKind, message: str, *, may_be_billed: bool) -> Failure:
        message = self._redacted(message.encode(errors="replace")).decode()
        # The library's own texts can have many lines, and quote what the server sent.
        return Failure(kind, " ".join(message.split())[:MAX_MESSAGE_CHARS], may_be_billed)

    def _timed_out(self, upload: Upload) -> Failure:
        timeouts = self._config.timeouts
        if not upload.has_started:
            message = f"no connection to {self._base_url} within {timeouts.connect_s:g} s"
            return self._failure(FailureKind.UNREACHABLE, message, may_be_billed=False)
        message = f"no whole answer: nothing for {timeouts.between_bytes_s:g} s, or not done after {timeouts.whole_s:g} s"
        return self._failure(FailureKind.TIMEOUT, message, may_be_billed=upload.may_be_whole)

    def _disconnected(self, error: Exception, upload: Upload) -> Failure:
        if upload.changed:
            return self._failure(FailureKind.INPUT_CHANGED, upload.changed, may_be_billed=False)
        if words := out_of_resources(error):
            return self._failure(FailureKind.STORAGE, words, may_be_billed=False)
        detail = _in_short(error)
        if not upload.has_started:
            message = f"no connection to {self._base_url}: {detail}"
            return self._failure(FailureKind.UNREACHABLE, message, may_be_billed=False)
        if isinstance(error.__cause__, aiohttp.http_exceptions.DecompressSizeError):
            return self._failure(
                FailureKind.TOO_LARGE, f"the answer can't be unpacked: {detail}", may_be_billed=True
            )
        message = f"the connection broke before the answer was whole: {detail}"
        return self._failure(FailureKind.DISCONNECTED, message, may_be_billed=upload.may_be_whole)


async def _next_chunk(content: aiohttp.StreamReader) -> bytes:
    """Return what arrived of a body, b"" at its end; also what arrived just before the connection broke, for an answer may be whole in it.

    Cancellation: safe.

    Raises:
        aiohttp.ClientError: The connection broke, and nothing is left to be read.
    """
    try:
        return await content.readany()
    except aiohttp.ClientError as error:
        # The library hands nothing out any more once it has an error to tell.
        content.set_exception(None)  # type: ignore[arg-type]
        left = content.read_nowait()
        content.set_exception(error)
        if not left:
            raise
        return left


def _words(error: Exception) -> str:
    """Return an error's own words: in front of some the library puts a status of its own making."""
    for each in (error.__cause__, error):
        message = getattr(each, "message", None)
        if isinstance(message, str) and message:
            return message
    return (
        "Server disconnected"
        if isinstance(error, aiohttp.ServerDisconnectedError)
        else str(error) or type(error).__name__
    )


def _in_short(error: Exception) -> str:
    """Return the system's own words for what went wrong; the library's have sockets, event loops and classes of Python in them."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} is not known here, or there is no network"
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted here ({error.certificate_error})"
        case aiohttp.ClientSSLError():
            reason = getattr(error.os_error, "reason", None)
            return "what answers there does not speak https as it should" + (
                f" ({reason})" if reason else ""
            )
        case aiohttp.ClientPayloadError():
            return re.sub(r": <\w+Error: .*>|\w+Error\(\d+, '(.*?)'\)", r"\1", _words(error))
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return _words(error)


class _DiskErrors:
    """Tells what the disk raises from what the connection raises."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise `_DiskError` in place of an `OSError`."""
        if isinstance(error, OSError):
            raise _DiskError(describe_os_error(error)) from error


_disk_errors = _DiskErrors()
