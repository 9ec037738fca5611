"""Nothing that a connection held before a request is taken for its answer."""

import asyncio
import base64
import socket
import ssl
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from gemini_batch.client import pool
from gemini_batch.client.pool import MAX_INTERIM_ANSWERS
from gemini_batch.config.network import trusted_certificates
from gemini_batch.records import Answer, Failure, FailureKind
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    CHUNKED,
    ENVELOPE,
    PIXELS,
    Images,
    Peer,
    Script,
    call,
    chunk,
    flood,
    opened,
    rounds,
    send,
    serving,
    whole,
)

STALE = whole(ANSWER.replace(base64.b64encode(PIXELS), base64.b64encode(b"\xff\xd8\xff stale")))
CHUNKS = CHUNKED + chunk(ANSWER) + b"0\r\n\r\n"


def following(*pieces: bytes, first: bytes = whole(), rest: bytes = b"") -> Script:
    """Return a script: after the first answer come pieces, and before the second one `rest`."""
    answers = iter([first])

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(next(answers, whole()))
        await rounds()
        await peer.say(*pieces)
        await peer.request()
        await peer.say(rest + whole())
        await peer.hang()

    return script


async def two_calls(base_url: str, **settings: Any) -> list[Answer | Failure]:
    """Send two calls, one after the other; what came after the first is read in between."""
    async with opened(base_url, **settings) as transport, asyncio.timeout(60):
        first = await transport.send(call(), Images())
        await rounds(50)
        second = await transport.send(call(), Images())
    return [first.answer, second.answer]


UNASKED: dict[str, bytes] = {
    "a whole answer": STALE,
    "an answer without its last byte": STALE[:-1],
    "the head of an answer": STALE[:-100],
    "a part of a head": STALE[:20],
    "one byte": b"H",
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "a timeout": whole(b"bored", "Connection: close", status="408 X"),
    "no HTTP": b"nonsense\r\n\r\n",
}


@pytest.mark.parametrize("first", [whole(), CHUNKS], ids=["length", "chunks"])
@pytest.mark.parametrize("name", [*UNASKED, "an empty line"])
async def test_what_comes_on_an_idle_connection_is_no_answer(name: str, first: bytes) -> None:
    """A connection on which something came after the answer carries no other request."""
    unasked = UNASKED.get(name, b"\r\n")
    async with serving(following(unasked, first=first)) as server:
        answers = await two_calls(server.base_url)

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers
    assert [len(peer.requests) for peer in server.peers] == [1, 1]


@pytest.mark.parametrize("first", [whole(), CHUNKS], ids=["length", "chunks"])
@pytest.mark.parametrize("name", UNASKED)
async def test_what_comes_together_with_an_answer_is_not_the_next(name: str, first: bytes) -> None:
    """What arrives behind an answer, in the same packet, is seen before the next request."""
    rest = STALE.removeprefix(UNASKED[name])
    script = following(first=first + UNASKED[name], rest=b"" if rest == STALE else rest)
    async with serving(script) as server:
        answers = await two_calls(server.base_url)

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers
    assert [len(peer.requests) for peer in server.peers] == [1, 1]


async def test_a_half_of_an_answer_that_hides_the_rest_is_found() -> None:
    """The library's parser is asked if it holds the begin of an answer, even one with a canary."""
    begin = b"HTTP/1.1 200 OK\r\nX: "
    script = following(first=whole() + begin, rest=b"\r\n" + STALE)
    async with serving(script) as server:
        answers = await two_calls(server.base_url)

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers


async def test_an_error_with_an_answer_behind_it_is_only_an_error() -> None:
    """An answer behind a short error is not that of the next call."""
    refusal = whole(b'{"error":{"code":503,"message":"busy"}}', status="503 X")
    async with serving(following(STALE, first=refusal)) as server:
        answers = await two_calls(server.base_url)

    assert [503, Answer(200, ENVELOPE, ARRIVED)] == [
        getattr(answers[0], "http_status", None),
        answers[1],
    ]


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return a server's context, whose certificate the client trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.mark.parametrize("name", UNASKED)
@pytest.mark.parametrize("same_packet", [False, True])
async def test_tls_hides_nothing(name: str, same_packet: bool, https: ssl.SSLContext) -> None:  # noqa: FBT001
    """What comes unasked over TLS is no answer either; session tickets are not taken for data."""
    unasked = UNASKED[name]
    script = following(first=whole() + unasked) if same_packet else following(unasked)
    async with serving(script, tls=https) as server:
        answers = await two_calls(server.base_url, certificates=trusted_certificates())

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers
    assert [len(peer.requests) for peer in server.peers] == [1, 1]


async def test_a_connection_over_tls_is_reused(https: ssl.SSLContext) -> None:
    """With TLS too, one connection carries one call after the other."""
    async with serving(following(), tls=https) as server:
        answers = await two_calls(server.base_url, certificates=trusted_certificates())

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers
    assert [len(peer.requests) for peer in server.peers] == [2]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the server speak before a new connection is used."""
    connect = aiohttp.TCPConnector.connect

    async def later(*arguments: Any, **options: Any) -> aiohttp.connector.Connection:
        connection = await connect(*arguments, **options)
        await rounds()
        return connection

    with monkeypatch.context() as patched:
        patched.setattr(aiohttp.TCPConnector, "connect", later)
        yield


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("greeting", [STALE, b"220 mail ready\r\n", b"HTTP/1.1 200 OK\r\n", b""])
async def test_a_server_that_speaks_first_gets_no_request(greeting: bytes) -> None:
    """What comes on a new connection before the request is no answer, and costs nothing."""

    async def script(peer: Peer) -> None:
        await peer.say(greeting)
        if greeting:
            await peer.hang()

    async with serving(script) as server, asyncio.timeout(60):
        failure = await send(server.base_url)

    expected = f"no connection to {server.base_url}: the server did not wait for the request"
    assert Failure(FailureKind.UNREACHABLE, expected, may_be_billed=False) == failure


async def test_interim_answers_without_end_end_the_attempt() -> None:
    """A stream of 1xx is cut off at once, and not skipped until the timeout."""
    endless = partial(flood, head=b"", piece=b"HTTP/1.1 100 Continue\r\n\r\n" * 50)
    async with serving(endless) as server, asyncio.timeout(60):
        failure = await send(server.base_url)

    assert isinstance(failure, Failure)
    assert f"more than {MAX_INTERIM_ANSWERS} interim answers" in failure.message
    assert failure.may_be_billed


async def test_some_interim_answers_are_skipped() -> None:
    """As many 1xx as a server may send come before an answer, in each exchange."""
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n" * MAX_INTERIM_ANSWERS
    async with serving(following(first=interim + whole(), rest=interim)) as server:
        answers = await two_calls(server.base_url)

    assert [Answer(200, ENVELOPE, ARRIVED)] * 2 == answers
    assert [len(peer.requests) for peer in server.peers] == [2]


async def test_tcp_keep_alive_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is silent while the model draws is kept open by probes."""
    found: dict[str, int] = {}
    keep_alive = pool._keep_alive

    def watched(transport: asyncio.Transport) -> None:
        keep_alive(transport)
        opened_socket = transport.get_extra_info("socket")
        found["on"] = opened_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name in pool.KEEP_ALIVE:
            if hasattr(socket, name):
                found[name] = opened_socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

    monkeypatch.setattr(pool, "_keep_alive", watched)
    async with serving(following()) as server:
        await send(server.base_url)

    assert found.pop("on")
    assert found == {name: pool.KEEP_ALIVE[name] for name in found}
    assert len(found) >= 1
