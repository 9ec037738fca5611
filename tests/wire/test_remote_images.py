"""Images that an answer names by URI."""

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gemini_batch.client import remote_body, remote_images
from gemini_batch.client.remote_images import RemoteImages
from gemini_batch.clock import Clock
from gemini_batch.errors import StorageError
from gemini_batch.records import FetchProblem, NotFetched
from tests.wire.peers import CHUNKED, Peer, Script, Server, Sink, chunk, headers_of, serving, whole

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(200)) * 50
PUBLIC_API = "https://api.test"
pytestmark = [pytest.mark.usefixtures("no_pauses"), pytest.mark.slow]


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let repeats follow at once."""
    monkeypatch.setattr(remote_images, "FIRST_PAUSE_S", 0.0)


async def fetch(
    uri: str, base_url: str = "http://127.0.0.1:1", within_s: float = 60.0
) -> tuple[NotFetched | None, list[bytes]]:
    """Fetch an image; return why not, and what each sink got."""
    sinks: list[Sink] = []

    def open_sink() -> Sink:
        sinks.append(Sink())
        return sinks[-1]

    async with RemoteImages(base_url, Clock()) as remote:
        until_s = asyncio.get_running_loop().time() + within_s
        result = await remote.fetch(uri, open_sink, until_s)
    return result, [sink.getvalue() for sink in sinks]


def each(*answers: bytes | Callable[[Peer], Awaitable[object]]) -> Script:
    """Return a script that gives each connection the next answer, the last one again and again."""
    left = list(answers)

    async def script(peer: Peer) -> None:
        peer.requests.append((await peer.head(), b""))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, bytes):
            await peer.say(answer)
        else:
            await answer(peer)

    return script


def page(status: str, body: bytes = b"", *headers: str) -> bytes:
    """Return an answer of a status."""
    return whole(body, *headers, status=status)


async def failed(server: Server, path: str = "/a.png") -> NotFetched:
    """Fetch from a server; return why it failed."""
    result, _ = await fetch(f"{server.base_url}{path}")
    assert result is not None
    return result


WHOLE = {
    "with a length": whole(IMAGE),
    "chunked": CHUNKED + chunk(IMAGE[:7]) + chunk(IMAGE[7:]) + b"0\r\n\r\n",
    "byte by byte at the start": CHUNKED
    + b"".join(chunk(IMAGE[at : at + 1]) for at in range(70))
    + chunk(IMAGE[70:])
    + b"0\r\n\r\n",
    "until the connection closes": b"HTTP/1.1 200 OK\r\n\r\n" + IMAGE,
    "gzip all the same": whole(gzip.compress(IMAGE), "Content-Encoding: gzip"),
    "gzip without saying so": whole(gzip.compress(IMAGE)),
    "gzip in many frames": whole(gzip.compress(IMAGE[:9]) + gzip.compress(IMAGE[9:])),
    "deflate": whole(zlib.compress(IMAGE)[2:-4], "Content-Encoding: deflate"),
    "not valid gzip, which its headers name": whole(IMAGE, "Content-Encoding: gzip"),
    "not valid br, which its headers name": whole(IMAGE, "Content-Encoding: br"),
    "called a text": whole(IMAGE, "Content-Type: text/plain"),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_an_image_is_fetched(name: str) -> None:
    """The sink gets the bytes of an image, however they are sent."""
    async with serving(each(WHOLE[name])) as server:
        assert await fetch(f"{server.base_url}/a.png") == (None, [IMAGE])


async def test_neither_key_nor_cookie_nor_proxy_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A URI of the API itself is fetched without the key as well; a redirect's cookie is not kept."""
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@127.0.0.1:1")
    there = page("302 Found", b"", "Location: /there", "Set-Cookie: a=b")
    async with serving(each(there, whole(IMAGE))) as server:
        result, _ = await fetch(f"{server.base_url}/v1beta/files/a?x=%2F1", server.base_url)
        assert result is None
        heads = [head for head, _ in server.requests]
        assert heads[0].startswith(b"GET /v1beta/files/a?x=%2F1 HTTP/1.1\r\n")
        assert [{*headers_of(head)} for head in heads] == 2 * [
            {"host", "accept", "accept-encoding", "user-agent", "connection"}
        ]


@pytest.mark.parametrize(
    "proxy", ["socks5://me:s3cret@127.0.0.1:1", "http://[", "http://me:s3cret@127.0.0.1:port"]
)
async def test_a_proxy_that_cant_be_used_is_a_problem_of_the_image(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    """The API may need none: the next run fetches the image, and the sentence has no password."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    result, sinks = await fetch("https://x.test/robot.png")
    assert result is not None
    assert (result.problem, sinks) == (FetchProblem.TRANSIENT, [])
    assert "HTTPS_PROXY: is " in result.message
    assert "s3cret" not in result.message


async def reset(peer: Peer) -> None:
    """Break the connection."""
    peer.reset()


TRANSIENT: dict[str, bytes | Callable[[Peer], Any]] = {
    "500": page("500 Internal Server Error"),
    "503 with a page": page("503 Service Unavailable", b"<html>busy</html>"),
    "429": page("429 Too Many Requests", b"", "Retry-After: 0"),
    "408": page("408 Request Timeout"),
    "202, not there yet": page("202 Accepted"),
    "cut": whole(IMAGE[:500], length=len(IMAGE)),
    "cut before it was compressed whole": whole(
        gzip.compress(IMAGE)[:-20], "Content-Encoding: gzip"
    ),
    "cut within the header of its compression": whole(gzip.compress(IMAGE)[:5]),
    "closed at once": b"",
    "reset": reset,
    "invalid chunk": CHUNKED + chunk(IMAGE) + b"nonsense\r\n",
}


@pytest.mark.parametrize("name", TRANSIENT)
async def test_a_transient_failure_is_repeated(name: str) -> None:
    """The next try brings the image whole, and one that lasts is tried a few times and no more."""
    async with serving(each(TRANSIENT[name], whole(IMAGE))) as server:
        result, images = await fetch(f"{server.base_url}/a.png")
        assert (result, images[-1]) == (None, IMAGE)
    async with serving(each(TRANSIENT[name])) as server:
        assert (await failed(server)).problem is FetchProblem.TRANSIENT
        # A request without any answer is repeated by the library, too, once a try.
        assert len(server.peers) in {remote_images.TRIES, 2 * remote_images.TRIES}


GONE = {
    "404": page("404 Not Found", b"<html>Not found</html>"),
    "410": page("410 Gone"),
    "S3": page("403 Forbidden", b"<Error><Message>Request has expired</Message></Error>"),
    "Google Cloud Storage": page("400 Bad Request", b"<Error><Code>ExpiredToken</Code></Error>"),
    "in gzip": page("403 Forbidden", gzip.compress(b"<Code>ExpiredToken</Code>" * 9)),
    "Azure": page("403 Forbidden", b"Signature not valid in the specified time frame"),
}
REFUSED = {
    "403": page("403 Forbidden", b'{"error": "no key"}'),
    "401": page("401 Unauthorized"),
    "a login page": page("200 OK", b"<!doctype html><html>Sign in</html>"),
    "JSON": page("200 OK", b'{"name": "files/a", "mimeType": "image/png"}'),
    "nothing": page("200 OK"),
    "too large by its length": whole(b"", length=10**9),
    "a login page in gzip": whole(gzip.compress(b"<html>Sign in</html>" * 9)),
    "brotli": whole(b"\x1b\x10\0\xf8" * 50, "Content-Encoding: br"),
    "damaged gzip": whole(gzip.compress(IMAGE)[:10] + b"\xff" * 200),
}


@pytest.mark.parametrize("name", GONE)
async def test_an_image_that_is_gone_is_asked_for_once(name: str) -> None:
    """A definite answer is not repeated, and is kept apart from what may come another time."""
    async with serving(each(GONE[name])) as server:
        assert (await failed(server)).problem is FetchProblem.GONE
        assert len(server.peers) == 1


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_picture_or_refused_is_asked_for_once(name: str) -> None:
    """Nothing that is not a picture reaches the sink; the message names the URI."""
    async with serving(each(REFUSED[name])) as server:
        result, images = await fetch(f"{server.base_url}/a.png")
        assert result is not None
        assert (result.problem, images) == (FetchProblem.REFUSED, [])
        assert result.message.startswith(f"{server.base_url}/a.png: ")
        assert len(server.peers) == 1
    if name.startswith("a login page"):
        assert "a web page and not a picture" in result.message


async def test_an_image_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the limit is refused while it arrives."""
    monkeypatch.setattr(remote_body, "MAX_IMAGE_BYTES", 100_000)

    async def flood(peer: Peer) -> None:
        await peer.say(CHUNKED)
        while True:
            await peer.say(chunk(IMAGE))

    async with serving(each(flood)) as server:
        result, images = await fetch(f"{server.base_url}/a.png")
    assert result is not None
    assert (result.problem, len(images)) == (FetchProblem.REFUSED, 1)
    assert "more than 100,000 bytes" in result.message
    assert len(images[0]) <= 100_000


async def test_a_picture_that_unpacks_without_end_is_refused_for_good() -> None:
    """A small body that grows beyond the limit is no failure of the server that may pass."""
    # One packet of it has more than 32 MiB, a limit of the library's.
    body = gzip.compress(IMAGE + bytes(70 << 20), 6)
    async with serving(each(whole(body, "Content-Encoding: gzip"))) as server:
        result, images = await fetch(f"{server.base_url}/a.png")
        assert result is not None
        assert result.problem is FetchProblem.REFUSED
        assert len(server.peers) == 1
    assert sum(map(len, images)) <= remote_body.MAX_IMAGE_BYTES


# --- time ---


async def test_the_time_holds_for_all_tries_together(jump: Callable[[float], None]) -> None:
    """A server that says nothing, or little, costs the time that is given, and no more."""
    asked = asyncio.Event()

    async def silent(peer: Peer) -> None:
        await peer.say(CHUNKED + chunk(IMAGE))
        asked.set()
        await peer.hang()

    async with serving(each(page("503 Service Unavailable"), silent)) as server:
        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(fetch(f"{server.base_url}/a.png", within_s=60.0))
            await asked.wait()
            jump(60.0)
        result, _ = fetching.result()
        assert result is not None
        assert result.problem is FetchProblem.TRANSIENT
        assert len(server.peers) == 2


SILENT = {
    "at once": b"",
    "behind the headers": CHUNKED,
    "within the picture": CHUNKED + chunk(IMAGE[:500]),
    "within the page of an error": b"HTTP/1.1 500 Error\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("name", SILENT)
async def test_silence_is_named_as_what_it_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that says nothing is called silent, and its status counts where it sent one."""
    monkeypatch.setattr(remote_images, "_BETWEEN_BYTES_S", 0.2)
    monkeypatch.setattr(remote_images, "TRIES", 2)

    async def silent(peer: Peer) -> None:
        await peer.say(SILENT[name])
        await peer.hang()

    async with serving(each(silent)) as server:
        result = await failed(server)
    expected = "HTTP 500" if "error" in name else "the server sent nothing for 0.2 s"
    assert result.message == f"{server.base_url}/a.png: {expected}"


async def test_the_last_try_and_the_one_before_it_are_told_apart() -> None:
    """When the time is over, the message says so, and what an earlier try has brought."""
    async with serving(each(page("503 Service Unavailable"), Peer.hang)) as server:
        result, _ = await fetch(f"{server.base_url}/a.png", within_s=0.1)
    assert result is not None
    assert result.message.endswith(": it did not arrive in time; an earlier try: HTTP 503")


async def test_a_refusal_whose_page_never_comes_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The status of a refusal is enough."""
    monkeypatch.setattr(remote_images, "_BETWEEN_BYTES_S", 0.2)

    async def silent(peer: Peer) -> None:
        await peer.say(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\n")
        await peer.hang()

    async with serving(each(silent)) as server:
        assert (await failed(server)).problem is FetchProblem.REFUSED
        assert len(server.peers) == 1


BROKEN = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nabc",
    "headers without end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_http_that_can_not_be_read_is_said_in_one_line(name: str) -> None:
    """The message quotes nothing of what the server sent."""
    async with serving(each(BROKEN[name])) as server:
        message = (await failed(server)).message
    assert "what the server sends can't be read: it" in message
    assert len(message.splitlines()) == 1
    assert not any(quoted in message for quoted in ("abc", "yyy", "SSH", "b'"))


async def test_a_name_that_is_looked_up_for_ever_costs_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name look-up counts, too."""
    loop = asyncio.get_running_loop()

    async def hang(*_arguments: Any, **_options: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(loop, "getaddrinfo", hang)
    result, _ = await fetch("https://slow.test/a.png", PUBLIC_API, within_s=0.05)
    assert result is not None
    assert result.problem is FetchProblem.TRANSIENT


async def test_a_wait_that_the_server_asks_for_is_kept_within_the_time() -> None:
    """A Retry-After beyond the time ends the fetch as transient."""
    answer = page("503 Service Unavailable", b"", "Retry-After: 3600")
    async with serving(each(answer)) as server:
        result, _ = await fetch(f"{server.base_url}/a.png", within_s=0.2)
        assert result is not None
        assert (result.problem, len(server.peers)) == (FetchProblem.TRANSIENT, 1)
        assert "HTTP 503" in result.message


async def test_an_untrusted_certificate_may_be_trusted_another_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A problem of TLS is one of the connection, and says so."""

    async def refuse(*_: object, sock: socket.socket, **__: object) -> Any:
        sock.close()
        raise ssl.SSLCertVerificationError(1, "self-signed certificate")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
    async with serving(Peer.hang) as server:
        result, _ = await fetch(f"{server.base_url.replace('http:', 'https:')}/a.png")
    assert result is not None
    assert result.problem is FetchProblem.TRANSIENT
    assert "its certificate is not trusted here" in result.message


# --- redirects and addresses ---


async def test_five_redirects_are_followed_and_no_more() -> None:
    """A chain of five ends at the image; a sixth redirect is refused."""
    hops = [page("302 Found", b"", f"Location: /{number}") for number in range(5)]
    async with serving(each(*hops, whole(IMAGE))) as server:
        assert await fetch(f"{server.base_url}/a.png") == (None, [IMAGE])
    async with serving(each(hops[0])) as server:
        assert (await failed(server)).problem is FetchProblem.REFUSED
        assert len(server.peers) == 6


@pytest.mark.parametrize(
    "location",
    [
        "http://10.0.0.1/a.png",
        "https://192.168.0.1/a.png",
        "http://169.254.169.254/computeMetadata/v1/",
        "//[fe80::1]/a.png",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "gs://bucket/a.png",
        "http://[::1",
    ],
)
async def test_a_redirect_leads_nowhere_else(location: str) -> None:
    """A redirect into a private network, or to another scheme, is refused and not repeated."""
    async with serving(
        each(page("307 Temporary Redirect", b"", f"Location: {location}"))
    ) as server:
        assert (await failed(server)).problem is FetchProblem.REFUSED
        assert len(server.peers) == 1


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1:{port}/a.png",
        "https://localhost:{port}/a.png",
        "https://2130706433:{port}/a.png",
        "https://0x7f.1:{port}/a.png",
        "https://[::ffff:127.0.0.1]:{port}/a.png",
        "https://user:secret@127.0.0.1:{port}/a.png",
        "https://0.0.0.0:{port}/a.png",
        "https://rebinding.test:{port}/a.png",
        "http://127.0.0.1:{port}/a.png",
        "http://example.com/a.png",
        "gs://bucket/a.png",
        "file:///etc/passwd",
        "files/abc-123",
        "data:image/png;base64,iVBORw0KGgo=",
        "",
        "https://",
        "https://[::1/a.png",
    ],
)
async def test_an_api_elsewhere_leads_to_no_address_here(
    monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    """Unless the API is on this machine itself, no URI makes a connection to it, in any spelling."""
    loop = asyncio.get_running_loop()
    real = loop.getaddrinfo

    async def look_up(host: Any, port: Any, **options: Any) -> Any:
        return await real("127.0.0.1" if host == "rebinding.test" else host, port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    async with serving(each(whole(IMAGE))) as server:
        result, images = await fetch(uri.format(port=server.base_url[-5:].lstrip(":")), PUBLIC_API)
        assert result is not None
        assert (result.problem, images, server.peers) == (FetchProblem.REFUSED, [], [])


async def test_the_address_that_is_connected_to_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a public and a private address reaches only the first, whatever a look-up said before."""
    loop = asyncio.get_running_loop()
    tried: list[str] = []

    async def look_up(_host: Any, port: int, **_options: Any) -> Any:
        addresses = ("10.0.0.1", "8.8.8.8", "169.254.169.254")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    async def connect(_socket: socket.socket, address: tuple[str, int]) -> None:
        tried.append(address[0])
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(loop, "getaddrinfo", look_up)
    monkeypatch.setattr(loop, "sock_connect", connect)
    result, _ = await fetch("https://both.test/a.png", PUBLIC_API)
    assert result is not None
    assert {*tried} == {"8.8.8.8"}


# --- the disk ---


async def test_a_disk_that_fails_is_no_failure_of_the_server() -> None:
    """An error of the sink is raised as one of the disk, and nothing is repeated."""

    def full() -> Sink:
        raise OSError(28, "No space left on device")

    async with serving(each(whole(IMAGE))) as server:
        async with RemoteImages(server.base_url, Clock()) as remote:
            until_s = asyncio.get_running_loop().time() + 5
            with pytest.raises(StorageError, match="No space left"):
                await remote.fetch(f"{server.base_url}/a.png", full, until_s)
        assert len(server.peers) == 1
