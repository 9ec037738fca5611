"""Answers that break, are silent, or do not end."""

import asyncio
import base64
import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gemini_batch.client import image_extractor, interactive, malformed, receiver
from gemini_batch.config import Timeouts
from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
)
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    CHUNKED,
    CUT,
    ENVELOPE,
    FAULTS,
    HEADERS,
    PIXELS,
    REFUSED,
    Images,
    Peer,
    Sink,
    chunk,
    flood,
    patient,
    rounds,
    saying,
    send,
    serving,
    whole,
)


@pytest.mark.parametrize("name", FAULTS)
async def test_a_broken_answer_is_a_failure(name: str) -> None:
    """A broken answer is a failure with a message of one line, and may have been billed."""
    pieces, end, kind = FAULTS[name]
    async with serving(saying(*pieces, then=end)) as server, asyncio.timeout(60):
        failure = await send(server.base_url)

    assert isinstance(failure, Failure), failure
    assert (kind, True) == (failure.kind, failure.may_be_billed), failure
    assert failure.message
    assert "\n" not in failure.message


@pytest.mark.parametrize("end", [None, Peer.reset, Peer.hang])
@pytest.mark.parametrize("name", REFUSED)
async def test_http_that_is_refused_is_named(name: str, end: Callable[[Peer], Any] | None) -> None:
    """HTTP that fails the same way each time is malformed, at once, and quotes nothing."""
    pieces, why = REFUSED[name]
    async with serving(saying(*pieces, then=end)) as server, asyncio.timeout(60):
        failure = await send(server.base_url)

    expected = f"the answer can't be read: {why}"
    assert Failure(FailureKind.MALFORMED, expected, may_be_billed=True) == failure


@pytest.mark.parametrize("head", [[CHUNKED], []])
async def test_an_answer_before_its_framing_breaks_is_received(head: list[bytes]) -> None:
    """An answer that is whole counts, in one packet with what breaks the framing too."""
    pieces = [*head, (b"" if head else CHUNKED) + chunk(ANSWER) + b"zz\r\n"]
    async with serving(saying(*pieces, then=Peer.hang)) as server, asyncio.timeout(60):
        assert Answer(200, ENVELOPE, ARRIVED) == await send(server.base_url)


async def test_an_error_without_end_is_cut_off() -> None:
    """The body of an error is read up to its cap."""
    endless = partial(flood, head=b"HTTP/1.1 500 X\r\n\r\n", piece=b"x" * 65_536)
    async with serving(endless) as server, asyncio.timeout(60):
        answer = await send(server.base_url)

    assert Answer(500, b"x" * interactive.MAX_ERROR_BODY_BYTES) == answer


SILENT: dict[str, list[bytes]] = {
    "before the headers": [],
    "within the headers": [HEADERS],
    "before the body": [whole(b"", length=100)],
    "within the body": [whole(CUT, length=len(ANSWER))],
    "within a chunk": [CHUNKED + chunk(ANSWER)[:-40]],
}


@pytest.mark.parametrize("name", SILENT)
async def test_silence_ends_with_the_time_of_the_attempt(
    name: str, jump: Callable[[float], None]
) -> None:
    """A silent server ends the attempt after `whole_s`; it may have billed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(*SILENT[name])
        jump(300.5)
        await peer.hang()

    async with serving(script) as server:
        failure = await send(server.base_url, timeouts=Timeouts(between_bytes_s=1000))

    expected = "no complete answer: nothing for 1000 s, or not complete after 300 s"
    assert Failure(FailureKind.TIMEOUT, expected, may_be_billed=True) == failure


NO_REASON = b',"finishReason":"STOP"'
OPEN_ENDED: dict[str, bytes] = {
    "an object": ANSWER.replace(NO_REASON, b""),
    "a reason of null": ANSWER.replace(NO_REASON, b',"finishReason":null'),
    "an event": b"data: " + ANSWER.replace(NO_REASON, b"") + b"\n\n",
}


@pytest.mark.parametrize("name", OPEN_ENDED)
async def test_an_answer_that_is_whole_outlasts_the_time_of_the_attempt(
    name: str, fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """An answer that may go on, and does not until the time is over, counts as far as it came."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + chunk(OPEN_ENDED[name]))
        await fed.acquire()
        for _ in range(5):  # a piece that is read after the first jump gets more time
            await rounds()
            jump(300.5)
        await peer.hang()

    async with serving(script) as server:
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=1000))

    assert isinstance(answer, Answer)
    assert answer.images == ARRIVED


async def test_an_answer_that_can_not_be_read_outlasts_it_too(
    fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """What is wrong with it is the failure, and not the time, so that it is kept."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + chunk(b"no JSON, and long enough"))
        await fed.acquire()
        await rounds()
        jump(0.9)
        await peer.hang()

    async with serving(script) as server:
        failure = await send(server.base_url, timeouts=Timeouts(between_bytes_s=1000, whole_s=0.5))

    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.NOT_AN_ANSWER


async def test_a_cancelled_call_is_cancelled_also_when_its_time_is_over(
    fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """Whoever cancels is not kept waiting by an answer that is whole."""
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(CHUNKED + chunk(OPEN_ENDED["an object"]))
        await fed.acquire()
        await rounds()
        arrived.set()
        await peer.hang()

    async with serving(script) as server:
        timeouts = Timeouts(between_bytes_s=1000)
        sending = asyncio.create_task(send(server.base_url, timeouts=timeouts))
        await arrived.wait()
        jump(300.5)
        await asyncio.sleep(0)  # the timer fires first
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending


@pytest.mark.parametrize("name", ["within the body", "within a chunk"])
async def test_silence_within_the_body_ends_earlier(name: str) -> None:
    """After the first byte of the body, a silence of `between_bytes_s` ends the attempt."""
    async with serving(saying(*SILENT[name], then=Peer.hang)) as server:
        failure = await send(server.base_url, timeouts=patient(between_bytes_s=0.03))

    expected = "no complete answer: nothing for 0.03 s, or not complete after 300 s"
    assert Failure(FailureKind.TIMEOUT, expected, may_be_billed=True) == failure


PACKED = whole(gzip.compress(ANSWER, mtime=0), "Content-Encoding: gzip")
CHUNK = CHUNKED + chunk(ANSWER)
# What comes before the silence, and after it.
EARLY: dict[str, tuple[bytes, bytes]] = {
    "nothing": (b"", whole()),
    "an interim answer": (b"HTTP/1.1 102 Processing\r\n\r\n", whole()),
    "a part of the headers": (HEADERS, whole().removeprefix(HEADERS)),
    "the headers": (whole()[: -len(ANSWER)], ANSWER),
    "a part of a chunk's length": (CHUNK[: len(CHUNKED) + 1], CHUNK[len(CHUNKED) + 1 :]),
    "the head of gzip": (
        PACKED[: PACKED.index(b"\r\n\r\n") + 14],
        PACKED[PACKED.index(b"\r\n\r\n") + 14 :],
    ),
}


@pytest.mark.parametrize("name", EARLY)
async def test_silence_before_the_first_byte_is_the_model_drawing(
    name: str, jump: Callable[[float], None]
) -> None:
    """Until the first byte of the body only `whole_s` counts, whatever came before it."""
    begun, rest = EARLY[name]

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(begun)
        await rounds()
        for _ in range(10):  # a longer step would be one in which the process stood still
            jump(0.9)
            await rounds(2)
        await peer.say(rest)
        await peer.hang()

    async with serving(script) as server, asyncio.timeout(1000):
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=2, whole_s=10))

    assert Answer(200, ENVELOPE, ARRIVED) == answer


async def test_the_model_may_think_for_long(
    fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """`between_bytes_s` starts with the first piece, and again with each one."""

    async def script(peer: Peer) -> None:
        await peer.request()
        jump(100)
        for piece in (whole()[:-60], whole()[-60:-40], whole()[-40:-20], whole()[-20:]):
            await peer.say(piece)
            await fed.acquire()
            jump(45)

    async with serving(script) as server, asyncio.timeout(1000):
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=60, whole_s=300))

    assert Answer(200, ENVELOPE, ARRIVED) == answer


@pytest.mark.parametrize("still_s", [61, 3600])
async def test_data_that_arrived_while_the_process_stood_still_is_read(
    still_s: float, fed: asyncio.Semaphore, jump: Callable[[float], None]
) -> None:
    """After ^Z, or a blocked event loop, the answer may have arrived: it is not timed out."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole()[:-60])
        await fed.acquire()
        jump(still_s)
        await asyncio.sleep(0)  # the timers fire first
        await peer.say(whole()[-60:])

    async with serving(script) as server:
        answer = await send(server.base_url, timeouts=Timeouts(between_bytes_s=20, whole_s=30))

    assert Answer(200, ENVELOPE, ARRIVED) == answer


async def test_a_slow_answer_that_progresses_is_not_cut_off(
    fed: asyncio.Semaphore, jump: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow line does not lose an answer that is paid for."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.say(whole().removesuffix(ANSWER))
        for start in range(0, len(ANSWER), 20):
            await peer.say(ANSWER[start : start + 20])
            await fed.acquire()
            jump(0.9)

    monkeypatch.setattr(interactive, "MIN_PROGRESS_BYTES", 20)
    async with serving(script) as server:
        answer = await send(server.base_url, timeouts=Timeouts(whole_s=2))

    assert Answer(200, ENVELOPE, ARRIVED) == answer


OPENING = ANSWER.partition(base64.b64encode(PIXELS))[0]


@pytest.mark.parametrize(
    ("opening", "piece", "expected"),
    [
        (b'{"text":"', b"a" * 65_536, "the answer has more than 1,000,000 bytes"),
        (b"{", b" " * 65_536, "the answer has more than 100,000 bytes outside its images"),
        (OPENING, b"A" * 65_536, "the answer has more than 1,000,000 bytes"),
    ],
)
async def test_a_body_without_end_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, opening: bytes, piece: bytes, expected: str
) -> None:
    """An endless body ends the attempt at a limit."""
    limits = malformed.ExtractorLimits(envelope_bytes=100_000, body_bytes=1_000_000)
    monkeypatch.setattr(
        receiver, "ImageExtractor", partial(image_extractor.ImageExtractor, limits=limits)
    )

    async with serving(partial(flood, head=HEADERS + b"\r\n" + opening, piece=piece)) as server:
        failure = await send(server.base_url)

    assert Failure(FailureKind.TOO_LARGE, expected, may_be_billed=True) == failure


class Dropping(Sink):
    """A sink that keeps nothing."""

    def write(self, data: Any, /) -> int:
        """Drop it."""
        return len(data)


@pytest.mark.parametrize("headers", [(), ("Content-Encoding: gzip",)])
async def test_a_compressed_bomb_takes_no_more_memory_than_a_piece(
    monkeypatch: pytest.MonkeyPatch, headers: tuple[str, ...]
) -> None:
    """Half a megabyte that unpacks to 500 MB is unpacked in pieces, up to the limit of a body."""
    limits = malformed.ExtractorLimits(body_bytes=20_000_000)
    monkeypatch.setattr(
        receiver, "ImageExtractor", partial(image_extractor.ImageExtractor, limits=limits)
    )
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(OPENING) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, equal data is packed into equal bytes.
    block = packer.compress(b"A" * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    packed += block * 500

    async with serving(saying(whole(packed, *headers), then=Peer.hang)) as server:
        tracemalloc.start()
        failure = await send(server.base_url, images=Images(Dropping))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert isinstance(failure, Failure)
    assert failure.kind is FailureKind.TOO_LARGE
    assert peak_bytes < 10_000_000
