"""Answers that arrive, of any status."""

import asyncio
import base64
import gzip
import random
import urllib.parse
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses

from gemini_batch.client import fairness, interactive
from gemini_batch.client.response import parse_answer
from gemini_batch.clock import Clock
from gemini_batch.records import (
    Answer,
    IncomingImage,
    Reply,
)
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    CHUNKED,
    ENVELOPE,
    KEY,
    PATH,
    PIXELS,
    Images,
    Peer,
    Sink,
    always,
    call,
    chunk,
    opened,
    patient,
    saying,
    send,
    serving,
    whole,
)

BYTE_BY_BYTE = [whole()[index : index + 1] for index in range(len(whole()))]
WHOLE: dict[str, list[bytes]] = {
    "with a length": [whole()],
    "byte by byte": BYTE_BY_BYTE,
    "chunked": [CHUNKED, chunk(ANSWER[:40]), chunk(ANSWER[40:]), b"0\r\n\r\n"],
    "chunked, without its end": [CHUNKED + chunk(ANSWER)],
    "until the connection closes": [b"HTTP/1.1 200 OK\r\n\r\n", ANSWER],
    "HTTP/1.0": [b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER],
    "called a text": [whole(ANSWER, "Content-Type: text/html; charset=nonsense")],
    "gzip all the same": [whole(gzip.compress(ANSWER), "Content-Encoding: gzip")],
    "created": [whole(status="201 Created")],
    "behind a 100": [b"HTTP/1.1 100 Continue\r\n\r\n", whole()],
    "with a length too great": [whole(length=len(ANSWER) + 1000)],
    "with a length far too great": [whole(length=10**12)],
    "and whitespace": [whole(ANSWER + b"\r\n \n")],
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("end", [None, Peer.reset, Peer.hang])
async def test_a_complete_answer_is_received(name: str, end: Callable[[Peer], Any] | None) -> None:
    """A complete answer counts at once, for any framing and any end of the connection."""
    images = Images()
    async with serving(saying(*WHOLE[name], then=end)) as server, asyncio.timeout(60):
        answer = await send(server.base_url, images=images)

    assert isinstance(answer, Answer), answer
    envelope = ENVELOPE + (b"\r\n \n" if name == "and whitespace" else b"")
    assert (envelope.strip(), ARRIVED) == (answer.body.strip(), answer.images)
    assert (201 if name == "created" else 200) == answer.http_status


@pytest.mark.parametrize("end", [Peer.reset, lambda peer: peer.writer.close()])
@pytest.mark.parametrize("head", [CHUNKED, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
async def test_an_answer_that_waits_for_the_loop_budget_survives_a_broken_connection(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[Peer], object], head: bytes
) -> None:
    """Data that arrived and waits for its turn is not lost when the connection breaks."""
    gone = asyncio.Event()

    async def acquire(_budget: object) -> None:
        await gone.wait()
        for _ in range(20):
            await asyncio.sleep(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        framed = chunk if head == CHUNKED else bytes
        await peer.say(head, framed(ANSWER[:40]))
        for _ in range(20):
            await asyncio.sleep(0)
        await peer.say(framed(ANSWER[40:]))
        for _ in range(20):
            await asyncio.sleep(0)
        end(peer)
        gone.set()

    monkeypatch.setattr(fairness.LoopBudget, "acquire", acquire)
    async with serving(script) as server, asyncio.timeout(60):
        answer = await send(server.base_url)

    assert Answer(200, ENVELOPE, ARRIVED) == answer


async def test_a_large_answer_survives_a_broken_connection() -> None:
    """A complete megabyte counts, even if more was announced and the connection closes."""
    pixels = random.Random(7).randbytes(1_000_000)
    body = ANSWER.replace(base64.b64encode(PIXELS), base64.b64encode(pixels))

    async with serving(saying(whole(body, length=len(body) + 1))) as server:
        answer = await send(server.base_url)

    assert (
        Answer(200, ENVELOPE, (IncomingImage(pixels.decode("latin-1"), len(pixels), "", b""),))
        == answer
    )


async def test_nothing_runs_between_the_last_byte_and_the_return() -> None:
    """Once the answer is complete, nothing else runs on the loop until `send` has returned."""
    others: list[str] = []

    def sink() -> Sink:
        made = Sink()
        made.on_close = lambda: asyncio.get_running_loop().call_soon(others.append, "ran")
        return made

    async with serving(always) as server, opened(server.base_url) as transport:
        exchange = await transport.send(call(), Images(sink))
        between = list(others)
        await asyncio.sleep(0)

    assert isinstance(exchange.answer, Answer)
    assert between == []
    assert others == ["ran"]


@pytest.mark.skipif(
    aiohttp.__version__ >= "3.14", reason="aioresponses 0.7.9 can't build the responses of 3.14"
)
@pytest.mark.parametrize(
    "status", [204, 301, 302, 307, 308, 400, 401, 402, 403, 404, 408, 413, 429, 499, 500, 503, 599]
)
async def test_an_error_is_an_answer(status: int) -> None:
    """Another status is an answer with body and headers; a redirect is not followed."""
    base_url = "https://api.test"
    headers = {
        "Location": "https://elsewhere.test/",
        "Retry-After": "7",
        "Date": "Sun, 22 Nov 2026 12:00:00 GMT",
    }
    with aioresponses() as server:
        server.post(base_url + PATH, status=status, body=b'{"error":{}}', headers=headers)
        answer = await send(base_url, clock=Clock(steady_s=lambda: 0.0))
        assert len(server.requests) == 1

    host = "elsewhere.test" if 300 <= status < 400 else ""
    expected = Answer(status, b'{"error":{}}', (), 7.0, host)
    assert expected == answer


@pytest.mark.parametrize("status", ["301 X", "302 X", "303 X", "307 X", "308 X"])
async def test_a_redirect_is_never_followed(status: str) -> None:
    """A redirect would carry the key, or the request, to another server."""
    async with serving(always) as elsewhere:
        redirect = whole(b"moved", f"Location: {elsewhere.base_url}{PATH}", status=status)
        async with serving(saying(redirect)) as server:
            answer = await send(server.base_url)

    expected = Answer(
        int(status[:3]), b"moved", redirects_to=elsewhere.base_url.removeprefix("http://")
    )
    assert expected == answer
    assert elsewhere.peers == []


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            f"https://user:{urllib.parse.quote(KEY, safe='')}@sso.test:8443/{KEY}?key={KEY}#{KEY}",
            "sso.test:8443",
        ),
        ("//[::1]:9/x", "[::1]:9"),
        (f"/login?key={KEY}", "here"),
        (f"https://{KEY.replace('/', '.').replace('+', '-').replace('~', '-')}.test/", None),
        ("https://sso.test:99999/", "no valid address"),
        ("javascript:alert(1)", ""),
        (f"https://{'a' * 5000}.test/", "a" * 253),
    ],
)
async def test_only_the_host_of_a_redirect_is_kept(location: str, expected: str | None) -> None:
    """The rest of the address may be secret; an invalid address is no error."""
    async with serving(saying(whole(b"moved", f"Location: {location}", status="302 X"))) as server:
        answer = await send(server.base_url)

    assert isinstance(answer, Answer)
    if expected == "here":
        expected = server.base_url.removeprefix("http://")
    assert expected in {answer.redirects_to, None}
    assert KEY not in repr(answer)


@pytest.mark.parametrize(
    ("pieces", "end", "expected"),
    [
        ([whole(b"x" * 3_000_000, status="500 X")], None, b"x" * interactive.MAX_ERROR_BODY_BYTES),
        ([whole(b"cut", status="500 X", length=1000)], None, b"cut"),
        ([whole(b"cut", status="500 X", length=1000)], Peer.hang, b"cut"),
        ([whole(b"not gzip", "Content-Encoding: gzip", status="500 X")], None, b"not gzip"),
        (
            [whole(gzip.compress(b"x" * 3_000_000), "Content-Encoding: gzip", status="500 X")],
            None,
            b"x" * interactive.MAX_ERROR_BODY_BYTES,
        ),
        ([whole(gzip.compress(b"packed"), status="500 X")], None, b"packed"),
        ([whole(b"", status="500 X")], None, b""),
    ],
)
async def test_the_status_is_enough(pieces: list[bytes], end: Any, expected: bytes) -> None:
    """The body of an error is capped; if it breaks off, hangs or can't be read, the status counts."""
    async with serving(saying(*pieces, then=end)) as server:
        answer = await send(server.base_url, timeouts=patient(between_bytes_s=0.03))

    assert isinstance(answer, Answer)
    assert answer.http_status == 500
    assert answer.body == expected or expected.startswith(answer.body)


# --- answers that break off behind their picture ---

BEHIND = {
    "the brackets": ANSWER[: ANSWER.index(b'"}}]}') + 1],
    "the last bracket": ANSWER[:-1],
    "half of the rest": ANSWER[:-20],
}
CUT_OFF: dict[str, Callable[[bytes], list[bytes]]] = {
    "with its length": lambda body: [whole(body)],
    "with the length of the whole": lambda body: [whole(body, length=len(ANSWER))],
    "chunked": lambda body: [CHUNKED, chunk(body), b"0\r\n\r\n"],
    "chunked, without its end": lambda body: [CHUNKED + chunk(body)],
    "within a chunk": lambda body: [CHUNKED + chunk(ANSWER)[: 4 + len(body)]],
    "until the connection closes": lambda body: [b"HTTP/1.1 200 OK\r\n\r\n", body],
    "an event": lambda body: [CHUNKED + chunk(b"data: " + body)],
    "gzip": lambda body: [
        whole(gzip.compress(body), "Content-Encoding: gzip", length=len(body) + 900)
    ],
    "with rubbish": lambda body: [whole(body + b"\0<html>502</html>")],
}


@pytest.mark.parametrize("lacks", BEHIND)
@pytest.mark.parametrize("name", CUT_OFF)
@pytest.mark.parametrize("end", [None, Peer.reset])
async def test_a_picture_is_kept_whose_answer_breaks_off(
    name: str, lacks: str, end: Callable[[Peer], Any] | None
) -> None:
    """A whole picture is the result, whatever of its answer is missing, for any framing."""
    images = Images()
    script = saying(*CUT_OFF[name](BEHIND[lacks]), then=end)
    async with serving(script) as server, asyncio.timeout(60):
        answer = await send(server.base_url, images=images)

    assert isinstance(answer, Answer), answer
    reply = parse_answer(answer)
    assert isinstance(reply, Reply), reply
    assert (reply.is_cut, reply.image is not None) == (True, True)
    assert images.sinks[0].getvalue() == PIXELS


async def test_a_picture_is_kept_whose_answer_stalls(
    jump: Callable[[float], None], fed: asyncio.Semaphore
) -> None:
    """Where nothing more comes behind a picture, it is the result once the time is over."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole(BEHIND["the brackets"], length=len(ANSWER)))
        await peer.hang()

    async with serving(script) as server, asyncio.timeout(600), asyncio.TaskGroup() as group:
        sending = group.create_task(send(server.base_url, timeouts=patient(between_bytes_s=60.0)))
        await fed.acquire()
        jump(61.0)
        answer = await sending

    assert isinstance(answer, Answer), answer
    assert answer.images == ARRIVED


async def test_a_picture_is_journaled_before_the_end_of_its_answer() -> None:
    """A kill while the rest of an answer is awaited finds the picture in the journal."""
    saved: list[tuple[bytes, bool]] = []
    journaled = asyncio.Event()

    class Journaling(Images):
        def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
            saved.append((envelope, is_whole))
            journaled.set()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole(BEHIND["the brackets"], length=len(ANSWER)))
        await journaled.wait()
        await peer.say(ANSWER[len(BEHIND["the brackets"]) :])

    async with serving(script) as server, asyncio.timeout(60):
        await send(server.base_url, images=Journaling())

    assert saved[-1] == (ENVELOPE, True)
    assert [is_whole for _, is_whole in saved] == [False, True]
    assert ENVELOPE.startswith(saved[0][0])
