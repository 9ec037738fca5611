"""Fetches images that an answer names by URI, without the key, within bounds of bytes and time."""

import asyncio
import re
import ssl
from collections.abc import Callable
from typing import Self

import aiohttp
from yarl import URL

from gemini_batch.client.body_decoder import decoded
from gemini_batch.client.connection_errors import describe_connection_error, describe_refusal
from gemini_batch.client.fairness import LoopBudget
from gemini_batch.client.headers import retry_after_s
from gemini_batch.client.public_hosts import PublicHosts, refuses_address
from gemini_batch.client.remote_body import MAX_IMAGE_BYTES, NotFetchedError, RemoteBody, too_large
from gemini_batch.client.transport import ImageSink
from gemini_batch.client.untrusted_json import one_line
from gemini_batch.clock import Clock
from gemini_batch.records import FetchProblem, NotFetched

MAX_REDIRECTS = 5
TRIES = 4
FIRST_PAUSE_S = 1.0

_CONNECT_S, _BETWEEN_BYTES_S = 10.0, 20.0
_ERROR_BYTES = 4096
_MAX_SHOWN_CHARS = 200
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429})
# Of signed URLs: "Request has expired" (S3), "ExpiredToken" (Google Cloud Storage), "Signature not
# valid in the specified time frame" (Azure), as of 2026-11-30, from public reports.
_EXPIRED = re.compile(rb"expired|specified time frame", re.IGNORECASE)
_INVALID = "it is not a valid URI"


class RemoteImages:
    """Fetches images over connections of its own. Use it as an async context manager."""

    def __init__(
        self, base_url: str, clock: Clock, certificates: ssl.SSLContext | None = None
    ) -> None:
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=_BETWEEN_BYTES_S)
        self._hosts = PublicHosts(base_url, timeout, certificates, {"Accept": "image/*"})
        self._clock = clock
        self._loop_budget = LoopBudget()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._hosts.close()

    async def fetch(
        self, uri: str, open_sink: Callable[[], ImageSink], until_s: float
    ) -> NotFetched | None:
        """Fetch an image; see `ImageFetcher.fetch`."""
        failed: NotFetched | None = None
        try:
            async with asyncio.timeout_at(until_s):
                for number in range(TRIES):
                    result = await self._try(uri, open_sink)
                    if result is None or result.problem is not FetchProblem.TRANSIENT:
                        return _named(uri, result)
                    failed = result
                    if number + 1 < TRIES:
                        await asyncio.sleep(max(FIRST_PAUSE_S * 2**number, result.wait_s))
        except TimeoutError:
            before = f"; an earlier try: {failed.message}" if failed else ""
            failed = NotFetched(FetchProblem.TRANSIENT, f"it did not arrive in time{before}")
        return _named(uri, failed)

    async def _try(self, uri: str, open_sink: Callable[[], ImageSink]) -> NotFetched | None:
        try:
            await self._follow(_url(uri), open_sink)
        except NotFetchedError as error:
            return error.result
        except aiohttp.InvalidURL:
            return NotFetched(FetchProblem.REFUSED, _INVALID)
        except (aiohttp.ClientError, OSError) as error:
            if refuses_address(error):
                message = "it leads to an address that is not public, and is not connected to"
                return NotFetched(FetchProblem.REFUSED, message)
            return NotFetched(FetchProblem.TRANSIENT, _describe(error))
        except ValueError:  # of the URL; one of the library's errors above is a `ValueError` too
            return NotFetched(FetchProblem.REFUSED, _INVALID)
        return None

    async def _follow(self, url: URL, open_sink: Callable[[], ImageSink]) -> None:
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            async with await self._hosts.get(url) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    await self._receive(response, open_sink)
                    return
                url = response.url.join(_url(location))
        raise NotFetchedError(FetchProblem.REFUSED, f"it redirects more than {MAX_REDIRECTS} times")

    def _check(self, url: URL) -> None:
        if url.scheme == "gs":
            advice = "a gs:// URI needs Google Cloud's credentials: copy it with `gcloud storage`"
            raise NotFetchedError(FetchProblem.REFUSED, advice)
        if not self._hosts.allows(url):
            raise NotFetchedError(FetchProblem.REFUSED, "only https:// URIs are fetched")

    async def _receive(
        self, response: aiohttp.ClientResponse, open_sink: Callable[[], ImageSink]
    ) -> None:
        match status := response.status:
            case 200:
                await self._stream(response, open_sink)
            case 404 | 410:
                raise NotFetchedError(FetchProblem.GONE, f"it is gone (HTTP {status})")
            case _ if status in _TRANSIENT or not 400 <= status < 500:
                wait_s = retry_after_s(response.headers.get("Retry-After"), self._clock.utc())
                raise NotFetchedError(FetchProblem.TRANSIENT, f"HTTP {status}", wait_s or 0.0)
            case _:
                if _EXPIRED.search(await _text_of_error(response)):
                    raise NotFetchedError(FetchProblem.GONE, f"it has expired (HTTP {status})")
                message = f"the server refuses it (HTTP {status}); the key is never sent there"
                raise NotFetchedError(FetchProblem.REFUSED, message)

    async def _stream(
        self, response: aiohttp.ClientResponse, open_sink: Callable[[], ImageSink]
    ) -> None:
        if (response.content_length or 0) > MAX_IMAGE_BYTES:
            raise too_large()
        body = RemoteBody(open_sink, response.headers.get("Content-Encoding", ""))
        async for chunk in response.content.iter_any():
            await self._feed(body, chunk)
        await self._feed(body, b"", is_last=True)
        body.end()

    async def _feed(self, body: RemoteBody, chunk: bytes, *, is_last: bool = False) -> None:
        for _ in body.feed(chunk, is_last=is_last):
            await self._loop_budget.acquire()


def _describe(error: Exception) -> str:
    """Return what went wrong with a connection."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"no connection within {_CONNECT_S:g} s"
    if isinstance(error, aiohttp.ServerTimeoutError):
        return f"the server sent nothing for {_BETWEEN_BYTES_S:g} s"
    if refusal := describe_refusal(error):
        return f"what the server sends can't be read: {refusal}"
    return one_line(describe_connection_error(error))


async def _text_of_error(response: aiohttp.ClientResponse) -> bytes:
    """Return the start of an error's body; the status is enough where none comes."""
    try:
        body = await response.content.read(_ERROR_BYTES)
    except (aiohttp.ClientError, TimeoutError):
        return b""
    return decoded(body, response.headers.get("Content-Encoding", ""), _ERROR_BYTES)


def _url(text: str) -> URL:
    """Return the URL; one that is plain ASCII is not quoted again, because it may be signed."""
    return URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)


def _named(uri: str, result: NotFetched | None) -> NotFetched | None:
    """Put the URI in front of the message."""
    if result is None:
        return None
    name = one_line(uri)
    if len(name) > _MAX_SHOWN_CHARS:
        name = f"{name[:_MAX_SHOWN_CHARS]}…"
    return NotFetched(result.problem, f"{name}: {result.message}")
