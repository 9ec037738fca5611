"""One request to `generateContent`, and its answer as it streams in."""

import asyncio
import email.utils
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO, Protocol

import aiohttp
import pybase64
from yarl import URL

import gemini_batch
from gemini_batch.clock import Clock
from gemini_batch.config import RunConfig
from gemini_batch.records import Answer, Call, Failure, FailureKind, IncomingImage, InputImage, Timing
from gemini_batch.transport import wire
from gemini_batch.transport.sieve import ImageSink, Sieve, SieveError

MAX_ERROR_BODY_BYTES = 1 << 20
# A multiple of three, so that every block but the last is base64 without padding.
UPLOAD_BLOCK_BYTES = 3 << 16


class Incoming(Protocol):
    """Where the images of one attempt go while they arrive."""

    def open_image(self, index: int, /) -> ImageSink:
        """Open the file of the image that arrives as the `index`-th."""
        ...

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images that are whole."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one attempt."""

    answer: Answer | Failure
    timing: Timing


class _InputChangedError(Exception):
    """A reference image is not the file any more that was planned."""


class Transport:
    """Sends calls over one pool of connections; use it as an async context manager.

    The key goes into a header or into the query, and never into a log, an error or a row: what a server echoes of it is blacked out.
    """

    def __init__(self, config: RunConfig, base_url: str, clock: Clock) -> None:
        self._config = config
        self._base_url = base_url
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Transport":
        """Open the pool; no connection is made yet."""
        # As many connections as calls in flight: nothing waits between a grant and its request.
        connector = aiohttp.TCPConnector(limit=self._config.concurrency, ttl_dns_cache=300, keepalive_timeout=60)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers(),
            timeout=aiohttp.ClientTimeout(
                total=self._config.timeouts.whole_s, sock_connect=self._config.timeouts.connect_s, connect=None
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def send(self, call: Call, incoming: Incoming) -> Sent:
        """Send the call once and stream the answer's images into `incoming`.

        Whatever happens on the way is a value: an `Answer` of any status, or a `Failure`. When the answer's JSON closes, this returns
        without giving way to the event loop, so that nothing can come between the last byte and its row.

        Cancellation: the request may have been billed; what arrived of the answer is lost.
        """
        segments = wire.body(call.request)
        upload = _Upload(segments)
        sent_at, started_s = self._clock.utc(), self._clock.steady_s()
        answer = await self._exchange(call, upload, segments, incoming)
        timing = Timing(sent_at, self._clock.utc(), self._clock.steady_s() - started_s)
        return Sent(answer, timing)

    async def _exchange(
        self, call: Call, upload: "_Upload", segments: tuple[wire.Segment, ...], incoming: Incoming
    ) -> Answer | Failure:
        if self._session is None:
            raise RuntimeError("the transport is used outside its `async with`")
        url = URL(wire.url(self._base_url, call.request.model), encoded=True)
        if self._config.auth == "query":
            url = url.update_query(key=self._config.api_key)
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._session.post(
                url,
                data=upload.stream(),
                headers={"Content-Length": str(wire.content_length(segments))},
                allow_redirects=False,
            )
            return await self._receive(response, incoming)
        except SieveError as error:
            return Failure(error.kind, str(error), may_be_billed=True)
        except TimeoutError as error:
            return self._timed_out(error, upload)
        except aiohttp.ClientError as error:
            return self._disconnected(error, upload)
        except OSError as error:
            # The connection's own errors come as ClientError: this one is the disk's.
            return Failure(FailureKind.STORAGE, f"the answer can't be written: {error}", may_be_billed=True)
        finally:
            if response is not None:
                response.release()

    async def _receive(self, response: aiohttp.ClientResponse, incoming: Incoming) -> Answer | Failure:
        server_at = _http_date(response.headers.get("Date"))
        if not 200 <= response.status < 300:
            body = await self._error_body(response)
            wait_s = _retry_after_s(response.headers.get("Retry-After"), self._clock.utc())
            return Answer(response.status, self._redacted(body), (), wait_s, server_at)
        sieve = Sieve(incoming.open_image)
        async with asyncio.timeout(None) as patience:
            while not sieve.is_whole:
                patience.reschedule(asyncio.get_running_loop().time() + self._config.timeouts.between_bytes_s)
                chunk = await response.content.readany()
                if not chunk:
                    break
                sieve.feed(chunk)
        skeleton = sieve.finish()
        return Answer(response.status, self._redacted(skeleton), incoming.arrived(), None, server_at)

    async def _error_body(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.timeouts.between_bytes_s):
                while len(body) < MAX_ERROR_BODY_BYTES and (chunk := await response.content.readany()):
                    body += chunk
        except (TimeoutError, aiohttp.ClientError):
            pass  # the status says enough; a cut body only shortens the message
        return bytes(body[:MAX_ERROR_BODY_BYTES])

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            # gzip would cost three times the CPU and save nothing: images do not compress.
            "Accept-Encoding": "identity",
            "User-Agent": f"gemini_batch/{gemini_batch.__version__}",
            # The server gives up, with a 504, when nobody would be there any more to take the answer.
            "X-Server-Timeout": str(int(self._config.timeouts.whole_s)),
        }
        if self._config.auth == "header":
            headers["x-goog-api-key"] = self._config.api_key
        return headers

    def _redacted(self, body: bytes) -> bytes:
        key = self._config.api_key.encode()
        return body.replace(key, b"[key]") if key and key in body else body

    def _timed_out(self, error: TimeoutError, upload: "_Upload") -> Failure:
        if not upload.has_started:
            return Failure(FailureKind.UNREACHABLE, f"no connection to {self._base_url} in time", may_be_billed=False)
        timeouts = self._config.timeouts
        message = (
            f"no whole answer: nothing for {timeouts.between_bytes_s:g} s, or not done after {timeouts.whole_s:g} s"
        )
        return Failure(FailureKind.TIMEOUT, message, may_be_billed=True)

    def _disconnected(self, error: aiohttp.ClientError, upload: "_Upload") -> Failure:
        if upload.changed:
            return Failure(FailureKind.INPUT_CHANGED, upload.changed, may_be_billed=False)
        detail = self._redacted(str(error).encode(errors="replace")).decode() or type(error).__name__
        if not upload.has_started:
            return Failure(FailureKind.UNREACHABLE, f"no connection to {self._base_url}: {detail}", may_be_billed=False)
        return Failure(
            FailureKind.DISCONNECTED, f"the connection broke before the answer was whole: {detail}", may_be_billed=True
        )


class _Upload:
    """A request's body, read and encoded a block at a time while it is sent."""

    def __init__(self, segments: tuple[wire.Segment, ...]) -> None:
        self._segments = segments
        self.has_started = False
        self.changed = ""

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body. It is asked for its first block when the connection stands: from then on bytes may have left."""
        for segment in self._segments:
            if isinstance(segment, bytes):
                self.has_started = True
                yield segment
                continue
            with self._opened(segment) as file:
                left = segment.size_bytes
                while left:
                    # Read on the loop: a block of 192 KiB, nearly always in the page cache; a thread would cost more.
                    block = file.read(min(left, UPLOAD_BLOCK_BYTES))
                    if not block:
                        raise self._change(segment, "became shorter while it was sent")
                    left -= len(block)
                    self.has_started = True
                    yield pybase64.b64encode(block)

    def _opened(self, image: InputImage) -> BinaryIO:
        try:
            file = open(image.file, "rb")  # noqa: SIM115 # the caller closes it
        except OSError as error:
            raise self._change(image, f"can't be opened any more: {error.strerror}") from error
        seen = os.fstat(file.fileno())
        if (seen.st_size, seen.st_mtime_ns) != (image.size_bytes, image.mtime_ns):
            file.close()
            raise self._change(image, "changed since the run began; run again")
        return file

    def _change(self, image: InputImage, what: str) -> _InputChangedError:
        # aiohttp turns what a body raises into an error of the connection: this note says what it was.
        self.changed = f"{image.path}: {what}"
        return _InputChangedError(self.changed)


def _http_date(value: str | None) -> datetime | None:
    if not value:
        return None
    try:
        parsed = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _retry_after_s(value: str | None, now: datetime) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date; None for anything else."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    at = _http_date(value)
    return max(0.0, (at - now).total_seconds()) if at else None
