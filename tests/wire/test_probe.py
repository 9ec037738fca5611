"""The probe of a server, over scripted connections."""

import pytest

from gemini_batch.client import probe as probing
from gemini_batch.client.probe import probe
from gemini_batch.config import Settings
from gemini_batch.records import ApiError, Failure, FailureKind, Limits
from tests.wire.peers import KEY, MODEL, Peer, patient, serving, whole

KNOWN = b'{"name":"models/x"}'
ANSWERS = {
    "nothing": b"",
    "no status line": KNOWN,
    "two lengths": whole(KNOWN, "Content-Length: 3"),
    "wrong chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a redirect to nowhere": whole(b"", "Location: http://[", status="302 Found"),
    "a redirect to an odd name": whole(b"", "Location: http://xn--\xff/", status="302 Found"),
    "a page": whole(b"<html>" + KEY.encode()),
    "a list": whole(b"[" + KNOWN + b"]"),
    "deep": whole(b"[" * 100_000),
    "another object": whole(b'{"object":"model"}'),
    "an error with the key": whole(
        b'{"error":{"code":400,"message":"%b","status":"INVALID_ARGUMENT"}}' % KEY.encode(),
        status="400 Bad Request",
    ),
    "odd details": whole(
        b'{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED","details":[null,5,{"violations":1}]}}',
        status="429 Too Many Requests",
    ),
}


async def probed(base_url: str) -> ApiError | Failure | None:
    """Return why a run could not send."""
    config = Settings("free", Limits(), base_url, base_url, MODEL, api_key=KEY, timeouts=patient())
    return await probe(config, base_url)


@pytest.mark.parametrize("name", ANSWERS)
async def test_whatever_a_server_says_is_a_problem_in_words(name: str) -> None:
    """Nothing is raised, and no message has the key."""

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.say(ANSWERS[name])

    async with serving(script) as server:
        found = await probed(server.base_url)
    assert found is not None
    assert found.message
    assert KEY not in repr(found)


async def test_a_server_that_is_silent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was reached, and did not answer in time."""
    monkeypatch.setattr(probing, "PROBE_S", 0.05)

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.hang()

    async with serving(script) as server:
        found = await probed(server.base_url)
    message = f"{server.base_url} does not answer within 0.05 s"
    assert found == Failure(FailureKind.TIMEOUT, message, may_be_billed=False)
