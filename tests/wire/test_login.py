"""Requests with the token of a Google Cloud login."""

import asyncio
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemini_batch.client import google_tokens
from gemini_batch.client.credentials import Token, TokenCredentials
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.config.vertex import Vertex
from gemini_batch.records import Answer, Failure, FailureKind
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    Images,
    Peer,
    Script,
    call,
    headers_of,
    image_of,
    opened,
    send,
    serving,
    whole,
)
from tests.wire.test_key import ECHOES

TOKENS = [f"ya29.A-token/of_{name}+login~0123456789abc=" for name in ("the", "a-second", "a-third")]
VERTEX = Vertex("my-project")
REFUSED = Failure(FailureKind.LOGIN, "no Google Cloud login", may_be_billed=False)
Issued = list[str]


@pytest.fixture(autouse=True)
def issued(monkeypatch: pytest.MonkeyPatch) -> Issued:
    """Return the tokens that were issued: the first ones of `TOKENS`, of an hour each."""
    got: Issued = []

    def fetch() -> Token:
        token = TOKENS[len(got)]
        got.append(token)
        headers = {"authorization": f"Bearer {token}", "x-goog-user-project": "who-pays"}
        return Token(headers, 3600.0, KeyRedactor(token))

    monkeypatch.setattr(google_tokens, "GoogleTokens", lambda _certificates: fetch)
    return got


def refusal(reason: str | None, status: str = "401 X") -> bytes:
    """Return the error of a token, as its bytes come."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    error = {"code": int(status[:3]), "message": "not valid", "status": "UNAUTHENTICATED"}
    details = {"details": [info]} if reason else {}
    return whole(json.dumps({"error": error | details}).encode(), status=status)


def then(*answers: bytes) -> Script:
    """Return a script that gives these answers over one connection."""
    left: Iterator[bytes] = iter(answers)

    async def script(peer: Peer) -> None:
        for answer in left:
            await peer.request()
            await peer.say(answer)

    return script


async def sent(*answers: bytes) -> tuple[Answer | Failure, list[dict[str, str]]]:
    """Return the answer of one call, and the headers of its requests."""
    async with serving(then(*answers)) as server:
        answer = await send(server.base_url, vertex=VERTEX, api_key="")
    return answer, [headers_of(head) for head, _ in server.requests]


async def test_a_request_has_the_token_and_no_key() -> None:
    """And the project that pays, if the login names one."""
    answer, (headers,) = await sent(whole())

    assert isinstance(answer, Answer)
    assert answer.images == ARRIVED
    assert headers["authorization"] == f"Bearer {TOKENS[0]}"
    assert headers["x-goog-user-project"] == "who-pays"
    assert "x-goog-api-key" not in headers


@pytest.mark.parametrize(
    ("first", "requests"),
    [
        (refusal("ACCESS_TOKEN_EXPIRED"), 2),
        (refusal(None), 2),
        (whole(b"<html>Unauthorized</html>", status="401 X"), 2),
        (refusal("ACCESS_TOKEN_TYPE_UNSUPPORTED"), 1),
        (refusal("CREDENTIALS_MISSING"), 1),
        (refusal("ACCESS_TOKEN_EXPIRED", "403 X"), 1),
    ],
)
async def test_only_an_expired_token_is_renewed(
    first: bytes, requests: int, issued: Issued
) -> None:
    """Once, in the same attempt, and with the next token; a gateway may have left out the reason."""
    answer, headers = await sent(first, whole())

    assert isinstance(answer, Answer)
    assert (answer.http_status == 200) is (requests == 2)
    assert [each["authorization"] for each in headers] == [f"Bearer {token}" for token in issued]
    assert len(headers) == requests


async def test_a_second_refusal_is_the_answer(issued: Issued) -> None:
    """A token that was just issued is not the reason."""
    answer, headers = await sent(*[refusal("ACCESS_TOKEN_EXPIRED")] * 3)

    assert isinstance(answer, Answer)
    assert (answer.http_status, len(headers), len(issued)) == (401, 2, 2)


async def test_the_second_request_is_as_whole_as_the_first(tmp_path: Path) -> None:
    """Reference images are read once more."""
    file = tmp_path / "a.png"
    file.write_bytes(b"\x89PNG" + bytes(300_000))
    async with serving(then(refusal("ACCESS_TOKEN_EXPIRED"), whole())) as server:
        answer = await send(server.base_url, image_of(file), vertex=VERTEX, api_key="")

    assert isinstance(answer, Answer)
    assert answer.http_status == 200
    (_, first), (_, second) = server.requests
    assert len(first) > 400_000
    assert first == second


async def test_a_key_is_not_renewed() -> None:
    """Without a login a 401 is the answer, whatever its reason."""
    async with serving(then(refusal("ACCESS_TOKEN_EXPIRED"), whole())) as server:
        answer = await send(server.base_url)

    assert isinstance(answer, Answer)
    assert (answer.http_status, len(server.requests)) == (401, 1)


@pytest.mark.parametrize("name", ECHOES)
async def test_an_echoed_token_is_redacted(name: str, issued: Issued) -> None:
    """In answers of any status and in any spelling, as a key is."""
    echo = ECHOES[name](TOKENS[0])
    body = json.dumps({"error": {"message": "not valid: KEY."}}).replace("KEY", echo).encode()
    reply = ANSWER.replace(b'"parts":[', f'"parts":[{{"text":"your token: {echo}"}},'.encode())

    no, _ = await sent(whole(body, status="400 X"))
    assert isinstance(no, Answer)
    assert no.body == b'{"error": {"message": "not valid: [key]."}}'

    issued.clear()
    yes, _ = await sent(whole(reply))
    assert isinstance(yes, Answer)
    assert b'"text":"your token: [key]"' in yes.body


async def test_a_token_that_was_renewed_is_redacted_still(issued: Issued) -> None:
    """The server that refuses it, and the one that answers after it, may quote either."""
    echo = f"{TOKENS[0]} and {TOKENS[1]} and {urllib.parse.quote(TOKENS[0], safe='')}"
    reply = ANSWER.replace(b'"parts":[', f'"parts":[{{"text":"{echo}"}},'.encode())

    answer, _ = await sent(refusal("ACCESS_TOKEN_EXPIRED"), whole(reply))

    assert isinstance(answer, Answer)
    assert b'"text":"[key] and [key] and [key]"' in answer.body
    assert issued == TOKENS[:2]


async def test_a_run_that_ends_waits_for_no_token() -> None:
    """A renewal that is under way ends with the transport, and its thread by itself."""
    hangs = threading.Event()

    def fetch() -> Failure:
        hangs.wait(60)
        return REFUSED

    async with serving(then()) as server:
        async with opened(server.base_url, vertex=VERTEX, api_key="") as transport:
            credentials = transport._credentials
            assert isinstance(credentials, TokenCredentials)
            credentials._fetch = fetch
            renewal = credentials._renewed()
            await asyncio.sleep(0)
        assert renewal.cancelled()
        hangs.set()


async def test_without_a_token_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither at the start nor later; the failure says so, and costs nothing."""
    monkeypatch.setattr(google_tokens, "GoogleTokens", lambda _certificates: lambda: REFUSED)
    async with (
        serving(then(whole())) as server,
        opened(server.base_url, vertex=VERTEX, api_key="") as transport,
    ):
        for _ in range(2):
            exchange = await transport.send(call(), Images())
            assert exchange.answer == REFUSED

    assert server.peers == []
