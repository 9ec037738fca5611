"""Connections to hosts that a server names, without the key.

The server chooses the URL, so it is not trusted: public addresses only. The address that is
connected to is checked, so that a name that resolves to another address the second time changes
nothing. Only where the API itself is on this machine, as the simulator is, are http and loopback
addresses allowed.

Behind a proxy only the proxy looks up names: there a host is checked as it is written.
"""

import errno
import socket
import ssl
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import aiohttp
from yarl import URL

from gemini_batch.client.addresses import is_loopback, is_loopback_host, is_public
from gemini_batch.client.connector import Connector
from gemini_batch.client.proxies import proxy_address
from gemini_batch.client.session import READ_BUFFER_BYTES
from gemini_batch.config.network import proxy_for
from gemini_batch.errors import ConfigError
from gemini_batch.version import __version__

_NOT_PUBLIC = "not a public address"


class RefusedAddressError(OSError):
    """An address that must not be connected to."""


class PublicHosts:
    """Sessions for such hosts; `timeout` and `headers` are those of each request."""

    def __init__(
        self,
        base_url: str,
        timeout: aiohttp.ClientTimeout,
        certificates: ssl.SSLContext | None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._is_local = is_loopback_host(URL(base_url).host or "")
        self._timeout = timeout
        self._certificates = certificates
        self._headers = {"Accept-Encoding": "identity", "User-Agent": f"gemini_batch/{__version__}"}
        self._headers |= headers
        self._direct: aiohttp.ClientSession | None = None
        self._proxied: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        for session in filter(None, (self._direct, self._proxied)):
            await session.close()

    def allows(self, url: URL) -> bool:
        """Return whether a URL may be fetched, as it is written."""
        return bool(url.host) and url.scheme in ({"http", "https"} if self._is_local else {"https"})

    async def get(
        self, url: URL, headers: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Send a request; the caller releases what it returns. No redirect is followed.

        Raises:
            RefusedAddressError: The address is not public; it may be the `os_error` of another.
            aiohttp.ClientConnectionError: There is no connection, or no proxy that can be used:
                the one for the API may be another, or none.
        """
        try:
            proxy = proxy_for(str(url))
        except ConfigError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error
        if proxy is None:
            self._direct = self._direct or self._session(self._socket)
            return await self._direct.get(url, headers=headers, allow_redirects=False)
        if not _is_public_name(url.host or ""):
            raise RefusedAddressError(errno.EACCES, _NOT_PUBLIC)
        self._proxied = self._proxied or self._session()
        address = proxy_address(proxy)
        return await self._proxied.get(url, headers=headers, allow_redirects=False, proxy=address)

    def _session(
        self, socket_factory: Callable[[tuple[Any, ...]], socket.socket] | None = None
    ) -> aiohttp.ClientSession:
        # A connection for each request: nothing that an earlier one left can be taken for an image.
        # There are no more of them than calls in flight.
        connector = Connector(
            limit=0,
            force_close=True,
            socket_factory=socket_factory,
            ssl=self._certificates or True,
        )
        return aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # the library takes what is damaged or cut off for whole
        )

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """Open the socket for an address, once the address itself is known to be allowed."""
        family, kind, protocol, _, (address, *_) = info
        if not is_public(address) and not (self._is_local and is_loopback(address)):
            # The same text for each address: only then the library raises the error as it is.
            raise RefusedAddressError(errno.EACCES, _NOT_PUBLIC)
        return socket.socket(family, kind, protocol)


def refuses_address(error: Exception) -> bool:
    """Return whether a connection failed because its address is not public."""
    return isinstance(getattr(error, "os_error", error), RefusedAddressError)


def _is_public_name(host: str) -> bool:
    """Return whether a host is a public address, or a name; no name is looked up."""
    try:
        return is_public(host)
    except ValueError:
        return True
