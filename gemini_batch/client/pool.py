"""A connection pool that does not reuse connections that the server has closed."""

import select
from typing import Any
from weakref import WeakSet

import aiohttp


class Pool(aiohttp.TCPConnector):
    """A pool that checks a connection before it is reused.

    Between two iterations of the event loop a server may close an idle connection. A request
    written to it may have reached the server and been billed, as far as the client can know. A
    connection that is found closed before the first byte is written carries no request: it is
    dropped, and another one is taken.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._used: WeakSet[object] = WeakSet()

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Return a connection of the pool, or a new one."""
        while True:
            connection = await super().connect(*arguments, **options)
            # A new one may be readable: TLS sends session tickets unasked.
            if connection.protocol not in self._used or not _is_readable(connection):
                self._used.add(connection.protocol)
                return connection
            connection.close()


def _is_readable(connection: aiohttp.connector.Connection) -> bool:
    """Return whether the server closed or broke the connection, or sent something unasked."""
    transport = connection.transport
    opened = None if transport is None else transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return bool(poll.poll(0))
