"""The key is never shown."""

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Callable

import aiohttp
import pytest
from aioresponses import aioresponses

from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
)
from tests.wire.peers import (
    ANSWER,
    ARRIVED,
    ENVELOPE,
    FAULTS,
    KEY,
    PATH,
    always,
    saying,
    send,
    serving,
    whole,
)

ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "as JSON escapes": lambda key: "".join(f"\\u{ord(character):04x}" for character in key),
    "as JSON escapes in capitals": lambda key: "".join(
        f"\\u{ord(character):04X}" for character in key
    ),
    "as JSON, slashes escaped": lambda key: key.replace("/", "\\/"),
    "as JSON in JSON": lambda key: json.dumps(key.replace("/", "\\/"))[1:-1].replace(
        "+", "\\\\u002b"
    ),
    "as a URL": lambda key: urllib.parse.quote(key, safe=""),
    "as a URL, every character": lambda key: "".join(f"%{ord(character):02x}" for character in key),
    "as a URL in a URL": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "as HTML": lambda key: html.escape(
        "".join(f"&#{ord(character)};" for character in key)
    ).replace("&amp;", "&"),
    "as HTML, in hex": lambda key: "".join(f"&#x{ord(character):X};" for character in key),
}


@pytest.mark.parametrize("name", ECHOES)
async def test_an_echoed_key_is_redacted(name: str) -> None:
    """An echoed key is redacted in answers of any status, and in any spelling."""
    echo = ECHOES[name](KEY)
    refusal = json.dumps({"error": {"message": "not valid: KEY."}}).replace("KEY", echo).encode()
    reply = ANSWER.replace(b'"parts":[', f'"parts":[{{"text":"your key: {echo}"}},'.encode())

    async with serving(saying(whole(refusal, status="400 X"))) as server:
        no = await send(server.base_url)
    async with serving(saying(whole(reply))) as server:
        yes = await send(server.base_url)

    assert isinstance(no, Answer)
    assert isinstance(yes, Answer)
    assert no.body == b'{"error": {"message": "not valid: [key]."}}'
    assert ENVELOPE.replace(b'"parts":[', b'"parts":[{"text":"your key: [key]"},') == yes.body


@pytest.mark.parametrize("auth", [pytest.param("header", marks=pytest.mark.torture), "query"])
@pytest.mark.parametrize("name", FAULTS)
async def test_the_key_is_in_no_failure(name: str, auth: str) -> None:
    """No message of a failure contains the key, even if it was in the URL."""
    pieces, end, _ = FAULTS[name]
    async with serving(saying(*pieces, then=end)) as server:
        failure = await send(server.base_url, auth=auth)

    assert KEY not in repr(failure)
    assert urllib.parse.quote(KEY, safe="") not in repr(failure)
    assert urllib.parse.quote(KEY) not in repr(failure)


async def test_the_key_in_the_text_of_an_error_is_redacted() -> None:
    """An error of the library that quotes the URL does not show the key."""
    base_url = "https://api.test"
    url = f"{base_url}{PATH}?key={urllib.parse.quote(KEY, safe='')}"
    with aioresponses() as server:
        server.post(re.compile(".*"), exception=aiohttp.ClientPayloadError(f"bad: {url} and {KEY}"))
        failure = await send(base_url, auth="query")

    expected = f"the connection broke before the answer was complete: bad: {base_url}{PATH}?key=[key] and [key]"
    assert Failure(FailureKind.DISCONNECTED, expected, may_be_billed=True) == failure


@pytest.mark.parametrize(
    "host",
    [
        f"{KEY.replace('_', '-').replace('/', '-')}.test",
        f"elsewhere.test:80/{KEY}",
        ".".join(reversed(KEY.lower().replace("_", "-").replace("/", "-").split("."))),
        f"{KEY.encode().hex()[:40]}.{KEY.encode().hex()[40:]}.test",
    ],
)
async def test_a_redirect_does_not_show_the_key(host: str) -> None:
    """Where a redirect leads is shown, but not a host that is made of the key."""
    redirect = whole(b"", f"Location: https://{host}", status="302 X")
    async with serving(saying(redirect)) as server:
        answer = await send(server.base_url)

    assert isinstance(answer, Answer)
    assert answer.redirects_to in ("[key]", "elsewhere.test:80")


async def test_a_header_that_is_no_http_does_not_show_the_key() -> None:
    """The library quotes what it can't parse; the key is not in it."""
    echo = base64.b64encode(KEY.encode())
    async with serving(saying(b"HTTP/1.1 200 OK\r\n" + echo + b"\r\n\r\n")) as server:
        failure = await send(server.base_url)

    assert isinstance(failure, Failure)
    assert echo.decode() not in failure.message


@pytest.mark.parametrize("before", [0, 40, 70, 80, 95, 120])
async def test_a_message_that_is_cut_shows_no_part_of_the_key(before: int) -> None:
    """What a message quotes is redacted before it is cut."""
    async with serving(saying(whole(b"x" * before + KEY.encode()))) as server:
        failure = await send(server.base_url)

    assert isinstance(failure, Failure)
    assert failure.message.startswith("the answer is not JSON: it begins with 'x"[: 40 + before])
    assert KEY[:5] not in failure.message


async def test_an_encoding_made_of_the_key_is_not_shown() -> None:
    """Neither is the start of it."""
    async with serving(saying(whole(b"z" * 20, f"Content-Encoding: {KEY}"))) as server:
        failure = await send(server.base_url)

    assert isinstance(failure, Failure)
    assert failure.message.startswith("the answer is compressed with something unknown")


@pytest.mark.parametrize("key", ["proxy-k3y", "SECRET-0", "lettersandlettersonly"])
async def test_a_short_key_is_redacted(key: str) -> None:
    """A proxy's key may be short; it is redacted if it can't be a word of an answer."""
    refusal = whole(f'{{"error":{{"message":"{key} is not known"}}}}'.encode(), status="400 X")
    async with serving(saying(refusal)) as server:
        answer = await send(server.base_url, api_key=key)

    assert Answer(400, b'{"error":{"message":"[key] is not known"}}') == answer


@pytest.mark.parametrize("key", ["", "a", "data", "candidates", "image/"])
async def test_a_placeholder_key_is_not_redacted(key: str) -> None:
    """A short placeholder, as for a simulator, could be any word of an answer."""
    async with serving(always) as server:
        answer = await send(server.base_url, api_key=key)

    assert Answer(200, ENVELOPE, ARRIVED) == answer
