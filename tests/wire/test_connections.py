"""The pool of connections."""

import asyncio
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.records import (
    Answer,
    Failure,
    Limits,
)
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    CHUNKED,
    CUT,
    ENVELOPE,
    MODEL,
    Images,
    Peer,
    Sink,
    always,
    call,
    chunk,
    headers_of,
    opened,
    patient,
    serving,
    whole,
)


@pytest.mark.parametrize(
    "answer", [whole(), whole(status="429 X"), CHUNKED + chunk(ANSWER) + b"0\r\n\r\n"]
)
async def test_a_connection_is_reused(answer: bytes) -> None:
    """After an answer of the announced length, the next call uses the same connection."""
    async with (
        serving(partial(always, answer=answer)) as server,
        opened(server.base_url) as transport,
    ):
        for _ in range(3):
            await transport.send(call(), Images())

    assert [len(peer.requests) for peer in server.peers] == [3]


def closes(peer: Peer) -> None:
    """Close the connection before the client's loop can notice."""
    peer.writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def sends_unasked(peer: Peer) -> None:
    """Send a timeout unasked, as some servers do."""
    os.write(
        peer.writer.get_extra_info("socket").fileno(),
        whole(b"bored", "Connection: close", status="408 X"),
    )


@pytest.mark.parametrize("end", [closes, sends_unasked])
async def test_a_connection_that_the_server_closed_is_not_reused(
    end: Callable[[Peer], None],
) -> None:
    """A request is sent once, over another connection, if its first one has ended."""
    async with serving(always) as server, opened(server.base_url) as transport:
        await transport.send(call(), Images())
        end(server.peers[0])
        exchange = await transport.send(call(), Images())

    assert Answer(200, ENVELOPE, ARRIVED) == exchange.answer
    assert [len(peer.requests) for peer in server.peers] == [1, 1]


async def test_a_connection_with_unread_data_is_not_reused() -> None:
    """Unread data of an answer is never mistaken for the next answer."""
    script = partial(always, answer=whole(length=len(ANSWER) + 10))
    async with serving(script) as server, opened(server.base_url) as transport:
        answers = [(await transport.send(call(), Images())).answer for _ in range(3)]

    assert [Answer(200, ENVELOPE, ARRIVED)] * 3 == answers
    assert [len(peer.requests) for peer in server.peers] == [1, 1, 1]


@pytest.mark.parametrize("end", [None, Peer.reset, Peer.hang])
async def test_each_call_has_a_connection(
    end: Callable[[Peer], Any] | None,
) -> None:
    """All calls in flight have a connection at once, also after as many failures."""
    waiting = asyncio.Semaphore(0)
    all_here = asyncio.Event()

    async def together(peer: Peer) -> None:
        await peer.request()
        if len(server.peers) <= 8:
            await peer.say(whole(CUT, length=len(ANSWER)))
            if end and (doing := end(peer)):
                await doing
            return
        waiting.release()
        if len(server.peers) == 16:
            all_here.set()
        await all_here.wait()
        await peer.say(whole())

    settings: dict[str, Any] = {"concurrency": 8, "timeouts": patient(between_bytes_s=0.05)}
    async with (
        serving(together) as server,
        opened(server.base_url, **settings) as transport,
        asyncio.timeout(60),
    ):
        broken = await asyncio.gather(*(transport.send(call(), Images()) for _ in range(8)))
        answers = await asyncio.gather(*(transport.send(call(), Images()) for _ in range(8)))

    assert [Failure] * 8 == [type(exchange.answer) for exchange in broken]
    assert [Answer] * 8 == [type(exchange.answer) for exchange in answers]


async def test_a_cancelled_call_releases_its_connection() -> None:
    """Cancelling a call raises in it only, and closes its connection."""
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if arrived.is_set():
            await peer.say(whole())
            return
        arrived.set()
        await peer.hang()
        gone.set()

    async with (
        serving(script) as server,
        opened(server.base_url, concurrency=1) as transport,
        asyncio.timeout(60),
    ):
        task = asyncio.create_task(transport.send(call(), Images()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await gone.wait()
        exchange = await transport.send(call(), Images())

    assert isinstance(exchange.answer, Answer)


async def test_cookies_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie is not sent back."""

    async def getaddrinfo(_: str, port: int, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    # A jar that keeps cookies keeps those of names only.
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    script = partial(always, answer=whole(ANSWER, "Set-Cookie: id=7; Path=/"))
    async with (
        serving(script) as server,
        opened(server.base_url.replace("127.0.0.1", "api.test")) as transport,
    ):
        for _ in range(2):
            await transport.send(call(), Images())

    assert ["cookie" in headers_of(head) for head, _ in server.requests] == [False, False]


async def test_a_bug_in_a_sink_is_raised() -> None:
    """An unexpected exception is raised, and the connection is released."""

    def broken() -> Sink:
        raise LookupError("a bug")

    async with (
        serving(always) as server,
        opened(server.base_url, concurrency=1) as transport,
        asyncio.timeout(60),
    ):
        with pytest.raises(LookupError, match="a bug"):
            await transport.send(call(), Images(broken))
        exchange = await transport.send(call(), Images())

    assert isinstance(exchange.answer, Answer)


async def test_a_closed_transport_raises() -> None:
    """Sending outside of `async with` raises RuntimeError."""
    config = Settings("free", Limits(), "http://x.test", "http://x.test", MODEL)

    with pytest.raises(RuntimeError, match="outside its `async with`"):
        await InteractiveTransport(config, "http://x.test", Clock()).send(call(), Images())
