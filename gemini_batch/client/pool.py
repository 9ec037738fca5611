"""Connections that are used again, but never one that the server has given up."""

import select
from typing import Any
from weakref import WeakSet

import aiohttp


class Pool(aiohttp.TCPConnector):
    """A pool that looks at a connection before it is used again.

    Between two turns of the event loop a server may close an idle connection. A request that is written all the same may have reached
    the server, and been billed, as far as anyone here can know. But a connection that is closed before the first byte is written can
    carry no request: it is dropped in time, and another one is taken.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._used: WeakSet[object] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Get a connection from the pool, or make one."""
        while True:
            connection = await super().connect(*arguments, **options)
            # A new one may have something to read: TLS sends its tickets unasked.
            if connection.protocol not in self._used or not _has_something_to_read(connection):
                self._used.add(connection.protocol)
                return connection
            connection.close()


def _has_something_to_read(connection: aiohttp.connector.Connection) -> bool:
    """Return whether the server closed the connection, or broke it, or said something that nobody asked for."""
    transport = connection.transport
    opened = None if transport is None else transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0:
        return True
    waiting = select.poll()
    waiting.register(opened.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
