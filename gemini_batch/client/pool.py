"""A connection pool in which nothing that came before a request is taken for its answer."""

import asyncio
import select
import socket
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from gemini_batch.client.connector import Connector

# Load balancers and NAT gateways forget a silent connection: those of Azure after 240 s, of AWS
# after 350 s (their documentation, 2026-11-30), and a model may draw for longer. A peer that
# answers no probe is given up after three minutes.
KEEP_ALIVE = {
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPALIVE": 30,  # TCP_KEEPIDLE on macOS
    "TCP_KEEPINTVL": 30,
    "TCP_KEEPCNT": 5,
}
# Servers send one or two interim answers (1xx) to a request. The library skips any number.
MAX_INTERIM_ANSWERS = 100
_HEAD_END = b"\r\n\r\n"
_CANARY = b"HTTP/1.1 204 canary\r\n\r\n"


class Pool(Connector):
    """A pool that checks a connection before a request is written to it.

    A server may close an idle connection, or send something on it. A request written to it then
    may have reached the server and been billed, as far as the client can know; and what came
    before the request is not its answer. Such a connection carries no request: it is dropped, and
    another one is taken.

    All connections read into one buffer of `read_bytes`, whose content is copied at once: memory
    grows with what arrived, not with what could have.
    """

    def __init__(self, *, read_bytes: int, **options: Any) -> None:
        super().__init__(**options)
        self._buffer = memoryview(bytearray(read_bytes))

    async def connect(self, *arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        """Return a connection of the pool, or a new one.

        Raises:
            aiohttp.ClientConnectionError: A new one can't be made, or something came on it.
        """
        while True:
            connection = await super().connect(*arguments, **options)
            guard = _guard_of(connection, self._buffer)
            if guard is not None and await guard.begin():
                connection.add_callback(guard.end)
                return connection
            connection.close()
            if guard is None or guard.is_new:
                raise aiohttp.ClientConnectionError("the server did not wait for the request")


class _Guard(asyncio.BufferedProtocol):
    """Passes to the library what a connection brings during an exchange, and nothing else."""

    def __init__(
        self, transport: asyncio.Transport, protocol: ResponseHandler, buffer: memoryview
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._buffer = buffer
        self._is_idle = True
        self._heads = 0
        self.is_new = True

    async def begin(self) -> bool:
        """Begin an exchange; return False if something has come already, or the end.

        Cancellation: not possible; it awaits what is there.
        """
        if _is_readable(self._transport, is_new=self.is_new) or self._protocol.should_close:
            return False
        if not self.is_new and not await self._is_between_answers():
            return False
        self._is_idle, self.is_new, self._heads = False, False, 0
        return True

    def end(self) -> None:
        """End the exchange: what comes from now on is not passed on."""
        self._is_idle = True

    async def _is_between_answers(self) -> bool:
        """Return whether the library's parser holds no part of an answer.

        It can't be asked, so it is given an answer, and must return this one.
        """
        self._protocol.data_received(_CANARY)
        if len(self._protocol) != 1:
            return False
        message, _ = await self._protocol.read()
        return message.reason == "canary" and not self._protocol.should_close

    def get_buffer(self, _wanted_bytes: int) -> memoryview:
        """Return where the next bytes go."""
        return self._buffer

    def buffer_updated(self, new_bytes: int) -> None:
        """Pass data on; break an idle connection instead, and one that never comes to an answer."""
        data = bytes(self._buffer[:new_bytes])
        if self._is_idle:
            self._transport.abort()
            return
        if not self._heads and (head_bytes := data.find(_HEAD_END) + len(_HEAD_END)) < len(data):
            # The library would forget this answer if an error follows it in the same packet.
            self._pass_on(data[:head_bytes])
            data = data[head_bytes:]
        self._pass_on(data)
        if self._heads > MAX_INTERIM_ANSWERS + 1:
            message = f"more than {MAX_INTERIM_ANSWERS} interim answers (1xx)"
            self._protocol.set_exception(aiohttp.http_exceptions.BadHttpMessage(message))
            self._transport.abort()

    def _pass_on(self, data: bytes) -> None:
        heads_before = len(self._protocol)
        self._protocol.data_received(data)
        self._heads += len(self._protocol) - heads_before
        # The library does not end the body of an answer whose framing is wrong. Without this, or
        # if the name changes, the reader waits for its timeout.
        body = getattr(self._protocol, "_payload", None)
        error = self._protocol.exception()
        if error is not None and body is not None and not (body.is_eof() or body.exception()):
            broken = aiohttp.ClientPayloadError(str(error))
            broken.__cause__ = error
            body.set_exception(broken)

    def eof_received(self) -> None:
        """Pass it on."""
        self._protocol.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass it on."""
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()


def _guard_of(connection: aiohttp.connector.Connection, buffer: memoryview) -> _Guard | None:
    """Return the guard of a connection, which a new one gets; None if a new one is closed."""
    transport, protocol = connection.transport, connection.protocol
    if transport is None or protocol is None:
        return None
    guard = transport.get_protocol()
    if isinstance(guard, _Guard):
        return guard
    _keep_alive(transport)
    guard = _Guard(transport, protocol, buffer)
    transport.set_protocol(guard)
    return guard


def _keep_alive(transport: asyncio.Transport) -> None:
    opened = transport.get_extra_info("socket")
    if opened is None:
        return
    with suppress(OSError):  # macOS refuses once the peer is gone
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _is_readable(transport: asyncio.Transport, *, is_new: bool) -> bool:
    """Return whether the server closed or broke the connection, or sent something unasked."""
    opened = transport.get_extra_info("socket")
    if opened is None or opened.fileno() < 0:
        return True
    if is_new and transport.get_extra_info("ssl_object") is not None:
        return False  # session tickets come unasked
    poll = select.poll()
    poll.register(opened.fileno(), select.POLLIN)
    return bool(poll.poll(0))
