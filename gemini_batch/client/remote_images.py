"""Fetches images that an answer names by URI, without the key.

The server chooses the URI, so it is not trusted: https only, public addresses only, within bounds
of bytes and time. The address that is connected to is checked, so that a name that resolves to
another address the second time, or a redirect, changes nothing. Only where the API itself is on
this machine, as the simulator is, are http and loopback addresses allowed.

Behind a proxy only the proxy looks up names: there a host is checked as it is written.
"""

import asyncio
import errno
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

import aiohttp
from yarl import URL

from gemini_batch.client.addresses import is_loopback, is_loopback_host, is_public
from gemini_batch.client.body_decoder import decoded
from gemini_batch.client.connection_errors import describe_connection_error, describe_refusal
from gemini_batch.client.fairness import LoopBudget
from gemini_batch.client.headers import retry_after_s
from gemini_batch.client.proxies import proxy_address
from gemini_batch.client.remote_body import MAX_IMAGE_BYTES, NotFetchedError, RemoteBody, too_large
from gemini_batch.client.transport import ImageSink
from gemini_batch.client.untrusted_json import one_line
from gemini_batch.clock import Clock
from gemini_batch.config.network import proxy_for
from gemini_batch.records import FetchProblem, NotFetched
from gemini_batch.version import __version__

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
_NOT_PUBLIC = "not a public address"


class _RefusedAddressError(OSError):
    """An address that must not be connected to."""


class RemoteImages:
    """Fetches images over connections of its own. Use it as an async context manager."""

    def __init__(
        self, base_url: str, clock: Clock, certificates: ssl.SSLContext | None = None
    ) -> None:
        self._is_local = is_loopback_host(URL(base_url).host or "")
        self._clock = clock
        self._certificates = certificates
        self._loop_budget = LoopBudget()
        self._direct: aiohttp.ClientSession | None = None
        self._proxied: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for session in filter(None, (self._direct, self._proxied)):
            await session.close()

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
            if isinstance(getattr(error, "os_error", error), _RefusedAddressError):
                message = "it leads to an address that is not public, and is not connected to"
                return NotFetched(FetchProblem.REFUSED, message)
            return NotFetched(FetchProblem.TRANSIENT, _describe(error))
        except ValueError:  # of the URL; one of the library's errors above is a `ValueError` too
            return NotFetched(FetchProblem.REFUSED, _INVALID)
        return None

    async def _follow(self, url: URL, open_sink: Callable[[], ImageSink]) -> None:
        for _ in range(MAX_REDIRECTS + 1):
            self._check(url)
            async with self._get(url) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    await self._receive(response, open_sink)
                    return
                url = response.url.join(_url(location))
        raise NotFetchedError(FetchProblem.REFUSED, f"it redirects more than {MAX_REDIRECTS} times")

    def _get(self, url: URL) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        proxy = proxy_for(str(url))
        if proxy is None:
            self._direct = self._direct or self._session(self._socket)
            return self._direct.get(url, allow_redirects=False)
        if not _is_public_name(url.host or ""):
            raise _RefusedAddressError(errno.EACCES, _NOT_PUBLIC)
        self._proxied = self._proxied or self._session()
        return self._proxied.get(url, allow_redirects=False, proxy=proxy_address(proxy))

    def _check(self, url: URL) -> None:
        if url.scheme == "gs":
            advice = "a gs:// URI needs Google Cloud's credentials: copy it with `gcloud storage`"
            raise NotFetchedError(FetchProblem.REFUSED, advice)
        if not url.host or url.scheme not in ({"http", "https"} if self._is_local else {"https"}):
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

    def _session(
        self, socket_factory: Callable[[tuple[Any, ...]], socket.socket] | None = None
    ) -> aiohttp.ClientSession:
        # A connection for each request: nothing that an earlier one left can be taken for an image.
        # There are no more of them than calls in flight.
        connector = aiohttp.TCPConnector(
            limit=0,
            force_close=True,
            socket_factory=socket_factory,
            ssl=self._certificates or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers={
                "Accept": "image/*",
                "Accept-Encoding": "identity",
                "User-Agent": f"gemini_batch/{__version__}",
            },
            timeout=aiohttp.ClientTimeout(
                total=None, connect=_CONNECT_S, sock_read=_BETWEEN_BYTES_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # the library takes what is damaged or cut off for whole
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Open the socket for an address, once the address itself is known to be allowed."""
        family, kind, protocol, _, (address, *_) = info
        if not is_public(address) and not (self._is_local and is_loopback(address)):
            # The same text for each address: only then the library raises the error as it is.
            raise _RefusedAddressError(errno.EACCES, _NOT_PUBLIC)
        return socket.socket(family, kind, protocol)


def _is_public_name(host: str) -> bool:
    """Return whether a host is a public address, or a name; no name is looked up."""
    try:
        return is_public(host)
    except ValueError:
        return True


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
    """Return the URL; one that is plain ASCII is not quoted again, for it may be signed."""
    return URL(text, encoded=text.isascii() and text.isprintable() and " " not in text)


def _named(uri: str, result: NotFetched | None) -> NotFetched | None:
    """Put the URI in front of the message."""
    if result is None:
        return None
    name = one_line(uri)
    if len(name) > _MAX_SHOWN_CHARS:
        name = f"{name[:_MAX_SHOWN_CHARS]}…"
    return NotFetched(result.problem, f"{name}: {result.message}")
