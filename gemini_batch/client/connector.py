"""A connector whose connections end with it."""

import asyncio
from typing import Any
from weakref import WeakSet

import aiohttp


class Connector(aiohttp.TCPConnector):
    """Ends all its connections when it is closed, those that were closed before included.

    The end of TLS waits for the peer, and the library forgets a connection as soon as it began to
    close it. An event loop that ends meanwhile leaves its socket open.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._with_tls: WeakSet[asyncio.Transport] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Return a connection of the pool, or a new one.

        Raises:
            aiohttp.ClientConnectionError: A new one can't be made.
        """
        connection = await super().connect(*arguments, **options)
        transport = connection.transport
        if transport is not None and transport.get_extra_info("ssl_object") is not None:
            self._with_tls.add(transport)
        return connection

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close the connections, and break those that wait for the end of TLS."""
        await super().close(abort_ssl=abort_ssl)
        for transport in list(self._with_tls):
            transport.abort()
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn
