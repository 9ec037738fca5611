"""Requests as they leave, and their uploads."""

import base64
import json
import os
import random
import tracemalloc
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest

from gemini_batch.config import Timeouts
from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
    Text,
)
from tests.wire.peers import (
    ANSWER,
    KEY,
    PATH,
    Peer,
    always,
    headers_of,
    image_of,
    send,
    serving,
    whole,
)


async def test_the_request_has_the_documented_form() -> None:
    """The request has the documented path and headers, an exact Content-Length, and the key in a header."""
    async with serving(always) as server:
        await send(server.base_url, timeouts=Timeouts(whole_s=299.5))
    head, body = server.requests[0]
    headers = headers_of(head)

    assert head.startswith(f"POST {PATH} HTTP/1.1\r\n".encode())
    assert headers["x-goog-api-key"] == KEY
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["x-server-timeout"] == "300"
    assert str(len(body)) == headers["content-length"]
    assert "transfer-encoding" not in headers
    assert json.loads(body) == {
        "contents": [{"role": "user", "parts": [{"text": "A robot"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]},
    }


@pytest.mark.parametrize(
    ("timeouts", "server_timeout"),
    [(Timeouts(), "900"), (Timeouts.of(None), "900"), (Timeouts.of(120), "120"), (Timeouts.of(1200), "1200")],
)  # fmt: skip
async def test_flex_has_a_quarter_of_an_hour(timeouts: Timeouts, server_timeout: str) -> None:
    """The server is told, and the body names the tier; a timeout of the user wins."""
    async with serving(always) as server:
        await send(server.base_url, tier="flex", timeouts=timeouts)
    head, body = server.requests[0]

    assert headers_of(head)["x-server-timeout"] == server_timeout
    assert json.loads(body)["serviceTier"] == "flex"
    assert timeouts.whole_of("flex") == float(server_timeout)
    assert timeouts.whole_of("standard") == timeouts.whole_of("priority") == timeouts.whole_s


async def test_vertex_gets_the_tier_in_headers() -> None:
    """Where the address is one of Vertex AI, the body has no tier."""
    async with serving(always) as server:
        base_url = f"{server.base_url}/v1/projects/p/locations/global/publishers/google"
        await send(base_url, tier="priority")
    head, body = server.requests[0]

    assert headers_of(head)["x-vertex-ai-llm-shared-request-type"] == "priority"
    assert headers_of(head)["x-vertex-ai-llm-request-type"] == "shared"
    assert headers_of(head)["x-server-timeout"] == "300"
    assert "serviceTier" not in json.loads(body)


@pytest.mark.parametrize("named", ["standard", "flex", None])
async def test_the_header_of_an_answer_names_the_tier(named: str | None) -> None:
    """It comes with the answer, for a body that names none."""
    header = (f"x-gemini-service-tier: {named}",) if named else ()

    async def script(peer: Peer) -> None:
        await always(peer, whole(ANSWER, *header))

    async with serving(script) as server:
        answer = await send(server.base_url, tier="flex")

    assert isinstance(answer, Answer)
    assert answer.service_tier == named


async def test_the_key_may_go_into_the_query() -> None:
    """`auth="query"` puts the key, URL-encoded, into the query, and into no header."""
    async with serving(always) as server:
        await send(server.base_url, auth="query")
    head = server.requests[0][0]
    target = head.split(b" ")[1].decode()

    assert target.partition("?")[0] == PATH
    assert urllib.parse.parse_qs(target.partition("?")[2]) == {"key": [KEY]}
    assert b"x-goog-api-key" not in head.lower()


async def test_an_upload_is_streamed(tmp_path: Path) -> None:
    """A reference image is read a block at a time: memory does not grow with its size."""
    file = tmp_path / "big.png"
    content = random.Random(7).randbytes(12_000_001)
    file.write_bytes(content)
    seen = bytearray()

    async def script(peer: Peer) -> None:
        length = int(headers_of(await peer.head())["content-length"])
        for start in range(0, length, 1 << 16):
            seen.extend(await peer.reader.readexactly(min(1 << 16, length - start)))
        await peer.say(whole())

    async with serving(script) as server:
        tracemalloc.start()
        await send(server.base_url, image_of(file), Text("x"))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (
        peak_bytes - len(seen) * 9 / 8 < 4_000_000
    )  # the list of what the server has seen may be an eighth larger
    assert content == base64.b64decode(
        json.loads(seen)["contents"][0]["parts"][0]["inlineData"]["data"]
    )


def shorten(file: Path) -> None:
    """Remove a byte, and keep the time."""
    before = file.stat()
    file.write_bytes(bytes(before.st_size - 1))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(file: Path) -> None:
    """Change only the time."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (shorten, "in/a.png: changed since the run began; run again"),
        (touch, "in/a.png: changed since the run began; run again"),
        (Path.unlink, "in/a.png: can no longer be read: No such file or directory"),
    ],
)
async def test_a_changed_input_is_not_paid_for(
    tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    """A changed reference image ends the attempt before the server has a request to bill."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(1000))
    image = image_of(file)
    change(file)

    async with serving(always) as server:
        failure = await send(server.base_url, Text("x"), image)

    assert Failure(FailureKind.INPUT_CHANGED, expected, may_be_billed=False) == failure
    assert server.requests == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (touch, "in/a.png: changed since the run began; run again"),
        (
            lambda file: os.truncate(file, 100),
            "in/a.png: became shorter while it was sent; run again",
        ),
    ],
)
async def test_an_input_that_changes_during_the_upload_is_not_paid_for(
    tmp_path: Path, change: Callable[[Path], object], expected: str
) -> None:
    """A file that changes during its upload ends the attempt before its last block."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        change(file)
        await peer.hang()

    async with serving(script) as server:
        failure = await send(server.base_url, image_of(file))

    assert Failure(FailureKind.INPUT_CHANGED, expected, may_be_billed=False) == failure


async def test_an_upload_that_breaks_off_is_not_billed(tmp_path: Path) -> None:
    """An incomplete request can't have been billed."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    async with serving(script) as server:
        failure = await send(server.base_url, image_of(file))

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.may_be_billed) == (FailureKind.DISCONNECTED, False)


async def test_an_answer_before_the_end_of_the_upload_is_received(tmp_path: Path) -> None:
    """A server may refuse a large request before it has received all of it."""
    file = tmp_path / "a.png"
    file.write_bytes(bytes(8_000_000))

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(whole(b"too large", status="413 Payload Too Large"))
        await peer.hang()

    async with serving(script) as server:
        answer = await send(server.base_url, image_of(file))

    assert Answer(413, b"too large") == answer
