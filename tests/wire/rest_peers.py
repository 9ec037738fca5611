"""A session of the API next to `generateContent`, and servers that answer request by request."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from gemini_batch.client.batches import Batches
from gemini_batch.client.files import Files
from gemini_batch.client.rest import RestSession
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.records import Limits
from tests.wire.peers import KEY, MODEL, Peer, headers_of, patient, serving, whole


@asynccontextmanager
async def session(base_url: str, **settings: Any) -> AsyncIterator[RestSession]:
    """Open a session whose timeouts no busy machine reaches."""
    defaults: dict[str, Any] = {"api_key": KEY, "timeouts": patient(), "concurrency": 2}
    config = Settings("free", Limits(), base_url, base_url, MODEL, **(defaults | settings))
    async with RestSession(config, base_url, Clock()) as opened:
        yield opened


@asynccontextmanager
async def batches(base_url: str, **settings: Any) -> AsyncIterator[Batches]:
    """Open the batches of a server."""
    async with session(base_url, **settings) as opened:
        yield Batches(opened)


@asynccontextmanager
async def files(base_url: str, **settings: Any) -> AsyncIterator[Files]:
    """Open the files of a server."""
    async with session(base_url, **settings) as opened, Files(opened) as found:
        yield found


@dataclass
class Got:
    """A request that arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = bytes | Callable[[Peer, Got], Awaitable[object]]


@dataclass
class Api:
    """A server that gives each request the next answer, and the last one again and again."""

    answers: list[Answer]
    base_url: str = ""
    got: list[Got] = field(default_factory=list)

    async def script(self, peer: Peer) -> None:
        """Answer the requests of a connection."""
        while True:
            head = await peer.head()
            method, target, _ = head.split(b" ", 2)
            headers = headers_of(head)
            got = Got(method.decode(), target.decode(), headers, b"")
            self.got.append(got)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if not isinstance(answer, bytes):
                await answer(peer, got)
                continue
            if length := headers.get("content-length"):
                got.body = await peer.reader.readexactly(int(length))
            await peer.say(answer)
            if re.search(rb"(?i)connection: close", answer):
                return


@asynccontextmanager
async def answering(answers: Iterable[Answer]) -> AsyncIterator[Api]:
    """Run a server that gives these answers."""
    api = Api(list(answers))
    async with serving(api.script) as server:
        api.base_url = server.base_url
        yield api


def ok(value: Any, *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer of JSON."""
    return whole(orjson.dumps(value), *headers, status=status)


def error(code: int, status: str, message: str = "no", *headers: str) -> bytes:
    """Return an error of the API."""
    body = {"error": {"code": code, "message": message, "status": status}}
    return ok(body, *headers, status=f"{code} {status}")


async def reset(peer: Peer, got: Got) -> None:
    """Read the request, and break the connection."""
    if length := got.headers.get("content-length"):
        got.body = await peer.reader.readexactly(int(length))
    peer.reset()
    await peer.hang()


async def close(peer: Peer, got: Got) -> None:
    """Read the request, and end the connection without an answer."""
    if length := got.headers.get("content-length"):
        got.body = await peer.reader.readexactly(int(length))
    peer.writer.close()
    await peer.hang()
