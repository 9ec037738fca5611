"""Downloads of results over scripted connections: ranges, cuts, redirects, and lines across them."""

import base64
import gzip
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemini_batch.client import results
from gemini_batch.client.downloading import Download
from gemini_batch.client.results import Results
from gemini_batch.records import ApiError, Failure, FailureKind, Reply
from tests.unit.client.result_file import PIXELS, Sink, line, response
from tests.wire.peers import KEY, Peer, patient, whole
from tests.wire.rest_peers import Answer, Got, answering, close, error, files

NAME = "files/batch-abc"
KEYS = [f"{number}.ab" for number in range(6)]
LINES = [line(key) + b"\n" for key in KEYS]
FILE = b"".join(LINES)
ENDS = [sum(map(len, LINES[: number + 1])) for number in range(len(LINES))]
TARGET = f"/v1beta/{NAME}:download?alt=media"
pytestmark = pytest.mark.usefixtures("no_pauses")


@pytest.fixture(scope="module", autouse=True)
def no_pauses() -> Any:
    """Let tries follow at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "FIRST_PAUSE_S", 0.0)
        yield


def cut(body: bytes, length: int, *headers: str, status: str = "200 OK") -> bytes:
    """Return an answer that ends before its length."""
    return whole(body, "Connection: close", *headers, status=status, length=length)


def ranged(got: Got, file: bytes = FILE) -> tuple[int, str]:
    """Return where a request begins, and the header of a 206 for it."""
    found = re.fullmatch(r"bytes=(\d+)-", got.headers["range"])
    assert found
    return int(found[1]), f"Content-Range: bytes {found[1]}-{len(file) - 1}/{len(file)}"


async def rest(peer: Peer, got: Got) -> None:
    """Send the range that is asked for."""
    start, header = ranged(got)
    await peer.say(whole(FILE[start:], header, status="206 Partial Content"))


class Read:
    """What was read of a file."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.sinks: list[Sink] = []
        self.reader: Results[Sink]

    @property
    def keys(self) -> list[str | None]:
        """The keys of the lines that are whole."""
        return [each.key for each in self.lines if not each.is_torn]

    @property
    def failure(self) -> Any:
        """Why it ended early."""
        return self.reader.failure


async def read(*answers: Answer, **settings: Any) -> tuple[Read, list[Got]]:
    """Read the results of a server; return them and the requests that arrived."""
    found = Read()

    def open_sink() -> Sink:
        found.sinks.append(Sink())
        return found.sinks[-1]

    async with answering(answers) as api, files(api.base_url, **settings) as opened:
        found.reader = Results(opened, NAME, open_sink)
        found.lines = [each async for each in found.reader.lines()]
    assert [each.sink for each in found.lines] == found.sinks, "each sink is in one line"
    for each in found.lines:
        if not each.is_torn:
            assert isinstance(each.outcome, Reply)
            assert each.outcome.image is not None
            assert each.outcome.image.file.encode("latin-1").startswith(PIXELS)
    return found, api.got


async def test_a_file_is_read_by_lines() -> None:
    """The file is asked for once, with the key, and every line has its image."""
    found, got = await read(whole(FILE))
    assert (found.keys, found.failure, found.reader.restarts) == (KEYS, None, 0)
    assert [(each.target, each.headers["x-goog-api-key"]) for each in got] == [(TARGET, KEY)]
    assert "range" not in got[0].headers


@pytest.mark.parametrize(
    "at", [1, ENDS[0] - 1, ENDS[0], ENDS[0] + 1, ENDS[2] - 2, ENDS[2], ENDS[3] + 40, len(FILE) - 1]
)
async def test_a_cut_download_continues_one_byte_early(at: int) -> None:
    """The range begins with the last byte that is known, and every line comes whole once."""
    found, got = await read(cut(FILE[:at], len(FILE)), rest if at >= ENDS[0] - 1 else whole(FILE))
    assert (found.keys, found.failure, found.reader.restarts) == (KEYS, None, 0)
    ends = [end for end in [*ENDS, *(end - 1 for end in ENDS)] if end <= at]
    expected = f"bytes={max(ends) - 1}-" if ends else None
    assert got[1].headers.get("range") == expected


@pytest.mark.parametrize("at", [ENDS[1], ENDS[1] + 30])
async def test_a_clean_end_within_the_file_is_noticed(at: int) -> None:
    """A server may end in mid-line as if all was sent; at the end of a line, only the counts show it."""
    found, got = await read(whole(FILE[:at]), rest)
    is_torn = at > ENDS[1]
    assert (found.keys, found.failure) == (KEYS if is_torn else KEYS[:2], None)
    assert len(got) == 1 + is_torn


async def test_a_last_line_without_a_newline_is_whole() -> None:
    """Closed JSON at the end of the file needs no newline."""
    found, got = await read(whole(FILE[:-1]))
    assert (found.keys, found.failure, len(got)) == (KEYS, None, 1)


async def test_a_file_that_always_ends_in_mid_line_has_ended() -> None:
    """After a few tries the torn line is the end of the file: no later run would find more."""
    found, got = await read(whole(FILE[:-30]))
    assert set(found.keys) == set(KEYS[:-1])
    assert (found.failure, found.lines[-1].is_torn) == (None, True)
    assert len(got) == results.TRIES


async def test_a_cut_download_that_never_continues_is_a_failure() -> None:
    """Where the connection breaks each time, a later run may find the rest."""
    found, got = await read(cut(FILE[:-30], len(FILE)))
    assert set(found.keys) == set(KEYS[:-1])
    assert found.failure.kind is FailureKind.DISCONNECTED
    assert len(got) == results.TRIES


async def no_range(peer: Peer, got: Got) -> None:
    """Ignore the range."""
    ranged(got)
    await peer.say(whole(FILE))


async def satisfied(peer: Peer, got: Got) -> None:
    """Refuse the range, and send the file to the next request."""
    if "range" in got.headers:
        await peer.say(whole(b"", f"Content-Range: bytes */{len(FILE)}", status="416 X"))
    else:
        await peer.say(whole(FILE))


def lying(
    header: str, shift: int = 0, body: bytes | None = None
) -> Callable[[Peer, Got], Awaitable[None]]:
    """Return an answer with a range that is not the one asked for, and the file to the next."""

    async def answer(peer: Peer, got: Got) -> None:
        if "range" not in got.headers:
            await peer.say(whole(FILE))
            return
        start, _ = ranged(got)
        text = header.format(start=start, end=len(FILE) - 1, size=len(FILE))
        headers = [f"Content-Range: {text}"] if text else []
        sent = FILE[start + shift :] if body is None else body
        await peer.say(whole(sent, *headers, status="206 Partial Content"))

    return answer


NOT_CONTINUED: dict[str, Answer] = {
    "the range is ignored": no_range,
    "416": satisfied,
    "no Content-Range": lying(""),
    "another start": lying("bytes 0-{end}/{size}"),
    "other units": lying("lines {start}-{end}/{size}"),
    "a piece of the rest": lying("bytes {start}-{start}/{size}"),
    "another length": lying("bytes {start}-{end}/*", shift=3),
    "other bytes": lying("bytes {start}-{end}/*", body=b"x" * (len(FILE) - ENDS[1] + 1)),
}


@pytest.mark.parametrize("name", NOT_CONTINUED)
async def test_a_server_that_cannot_continue_is_read_from_the_start(name: str) -> None:
    """Nothing is taken for the rest of the file that is not; all lines come again."""
    answers = [cut(FILE[: ENDS[1] + 20], len(FILE)), NOT_CONTINUED[name]]
    found, _ = (
        await read(*answers, whole(FILE))
        if name == "the range is ignored"
        else await read(*answers)
    )
    assert (found.keys, found.failure) == (KEYS[:2] + KEYS, None)
    assert found.reader.restarts == 1


async def test_another_version_of_the_file_is_not_continued() -> None:
    """With an ETag, the range is asked for on condition that the file is the same."""
    first = cut(FILE[: ENDS[1]], len(FILE), 'ETag: "one"')
    _, got = await read(first, rest)
    assert got[1].headers["if-range"] == '"one"'
    weak = cut(FILE[: ENDS[1]], len(FILE), 'ETag: W/"one"')
    _, got = await read(weak, rest)
    assert "if-range" not in got[1].headers


async def test_a_compressed_file_is_read_again_from_its_start() -> None:
    """An offset in a compressed file means nothing; it is decompressed all the same."""
    large = b"".join(
        line(key, response=response(PIXELS + random.Random(key).randbytes(50_000))) + b"\n"
        for key in KEYS
    )
    packed = gzip.compress(large)
    for header in (["Content-Encoding: gzip"], []):
        found, got = await read(
            cut(packed[: len(packed) // 2], len(packed), *header), whole(packed, *header)
        )
        assert set(found.keys) == set(KEYS)
        assert (found.failure, "range" in got[1].headers) == (None, False)


@pytest.mark.parametrize(
    ("answer", "status", "number"),
    [
        (error(404, "NOT_FOUND"), 404, 1),
        (error(403, "PERMISSION_DENIED"), 403, 1),
        (error(429, "RESOURCE_EXHAUSTED"), 429, 1),
        (error(503, "UNAVAILABLE"), 503, results.TRIES),
    ],
)
async def test_an_error_is_reported(answer: bytes, status: int, number: int) -> None:
    """What may pass is tried a few times; anything else is for the next run."""
    found, got = await read(answer)
    assert isinstance(found.failure, ApiError)
    assert (found.failure.http_status, found.lines, len(got)) == (status, [], number)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>\n<body>Sign in</body>\n</html>\n", "web page"),
        (orjson.dumps({"error": {"code": 503, "message": "later"}}), "later"),
        (b'{\n  "error": {\n    "code": 503\n  }\n}\n', "breaks off"),
        (b"no such file", "not JSON"),
    ],
)
async def test_a_page_is_no_result_file(body: bytes, message: str) -> None:
    """A 200 without a single result is a failure: its calls are not without an answer."""
    async with answering([whole(body)]) as api, files(api.base_url) as opened:
        reader = Results(opened, NAME, Sink)
        assert all(each.key is None for each in [each async for each in reader.lines()])
    assert isinstance(reader.failure, ApiError | Failure)
    assert message in reader.failure.message


async def test_an_odd_first_line_is_no_failure() -> None:
    """One line with a key shows that it is the result file; so does an image without a key."""
    for file in (b"nonsense\n" + LINES[0], LINES[0].replace(b'"key"', b'"x"')):
        async with answering([whole(file)]) as api, files(api.base_url) as opened:
            reader = Results(opened, NAME, Sink)
            assert len([each async for each in reader.lines()]) == file.count(b"\n")
        assert reader.failure is None


async def test_progress_renews_the_tries() -> None:
    """A connection that breaks after each line gets the file through."""

    async def one_more(peer: Peer, got: Got) -> None:
        start, header = ranged(got) if "range" in got.headers else (0, "X: y")
        stop = next(end for end in ENDS if end > start + 1)
        status = "206 Partial Content" if start else "200 OK"
        await peer.say(whole(FILE[start:stop], header, status=status, length=len(FILE) - start))
        await close(peer, got)

    found, got = await read(one_more)
    assert (found.keys, found.failure, len(got)) == (KEYS, None, len(KEYS))


async def test_a_silent_server_is_left() -> None:
    """A pause within the file is a break."""

    async def silent(peer: Peer, _: Got) -> None:
        await peer.say(whole(FILE[: ENDS[1]], length=len(FILE)))
        await peer.hang()

    found, _ = await read(silent, rest, timeouts=patient(between_bytes_s=0.05))
    assert (found.keys, found.failure) == (KEYS, None)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(FILE)), max_size=6), st.sampled_from(["taken", "ignored"]))
async def test_every_line_comes_wherever_the_connection_breaks(
    cuts: list[int], ranges: str
) -> None:
    """With ranges each line comes once; without them, in the order of the file each time."""
    left, has_ranges = list(cuts), ranges == "taken"

    async def breaking(peer: Peer, got: Got) -> None:
        start, header = ranged(got) if "range" in got.headers and has_ranges else (0, "X: y")
        stop = start + left.pop(0) if left else len(FILE)
        status = "206 Partial Content" if start else "200 OK"
        await peer.say(whole(FILE[start:stop], header, status=status, length=len(FILE) - start))
        if stop < len(FILE):
            await close(peer, got)

    found, _ = await read(breaking)
    if found.failure is None:
        assert found.keys[-len(KEYS) :] == KEYS
        assert not has_ranges or found.keys == KEYS
    else:
        assert len(cuts) - len(left) >= results.TRIES


# --- redirects ---


def to(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    return whole(b"", f"Location: {location}", status=f"{status} X")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_server_has_the_key(status: int) -> None:
    """The same server gets the key again, at another path."""
    found, got = await read(to("/download/x?alt=media", status), whole(FILE))
    assert (found.keys, found.failure) == (KEYS, None)
    assert [each.headers.get("x-goog-api-key") for each in got] == [KEY, KEY]
    assert got[1].target == "/download/x?alt=media"


@pytest.mark.parametrize("auth", ["header", "query"])
async def test_another_host_gets_no_key(auth: str) -> None:
    """A signed URL is followed as it is, without the key, and with the range."""
    async with answering([cut(FILE[: ENDS[0]], len(FILE)), rest]) as other:
        signed = f"{other.base_url}/x?sig=a%2Fb%3D"
        found, got = await read(to(signed), to(signed), auth=auth)
    assert (found.keys, found.failure) == (KEYS, None)
    assert KEY not in repr(other.got)
    assert [each.target for each in other.got] == ["/x?sig=a%2Fb%3D"] * 2
    assert [each.headers.get("range") for each in other.got] == [None, f"bytes={ENDS[0] - 1}-"]
    assert [each.headers.get("range") for each in got] == [None, f"bytes={ENDS[0] - 1}-"]


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("ftp://x.test/a", "only https:// addresses are followed"),
        ("http://[", "only https:// addresses are followed"),
        ("http://xn--\xff/secret", "only https:// addresses are followed"),
        ("https://xn--a-ecp.ru:x/secret", "only https:// addresses are followed"),
        ("https://x.test:99999/secret", "only https:// addresses are followed"),
        ("https://10.0.0.1/secret", "not public"),
        ("http://192.168.0.1/secret", "not public"),
        ("/again?secret", "more than 5 redirects"),
    ],
)
async def test_a_redirect_that_leads_astray_is_not_followed(location: str, message: str) -> None:
    """A server can't lead the client into the user's network, nor round in circles."""
    found, got = await read(to(location))
    assert isinstance(found.failure, Failure)
    assert message in found.failure.message
    assert "secret" not in found.failure.message
    assert len(got) in {1, 6}


@asynccontextmanager
async def far_away(location: str) -> AsyncIterator[Any]:
    """Download over a session whose server is not on this machine."""
    async with answering([to(location)]) as api, files(api.base_url) as opened:
        opened._hosts._is_local = False
        async with opened.download(NAME) as found:
            yield found


@pytest.mark.parametrize(
    "location", ["http://x.test/a", "https://127.0.0.1:1/a", "https://[::1]/a"]
)
async def test_a_server_on_the_internet_leads_to_https_and_public_hosts_alone(
    location: str,
) -> None:
    """Neither plain http nor this machine is followed to."""
    async with far_away(location) as found:
        assert isinstance(found, Failure)
        assert found.kind is FailureKind.MALFORMED


# --- one download ---


async def test_a_download_shows_its_size() -> None:
    """The size is that of the whole file, also of a range; None where the server does not say."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with answering([whole(FILE), rest, chunks]) as api, files(api.base_url) as opened:
        for start_bytes, total_bytes in ((0, len(FILE)), (7, len(FILE)), (0, None)):
            async with opened.download(NAME, start_bytes) as found:
                assert isinstance(found, Download)
                assert (found.start_bytes, found.total_bytes) == (start_bytes, total_bytes)


async def test_a_consumer_that_takes_long_is_no_timeout() -> None:
    """The time between chunks that counts is the server's alone."""
    impatient = patient(between_bytes_s=0.05)
    async with (
        answering([whole(FILE * 400)]) as api,
        files(api.base_url, timeouts=impatient) as opened,
        opened.download(NAME) as found,
    ):
        assert isinstance(found, Download)
        sizes = [len(chunk) async for chunk in slow(found)]
    assert (sum(sizes), found.failure) == (400 * len(FILE), None)


async def slow(download: Download) -> AsyncIterator[bytes]:
    """Block the process for longer than the timeout, once."""
    import time

    is_first = True
    async for chunk in download.chunks():
        if is_first:
            time.sleep(0.1)  # noqa: ASYNC251 # it is the disk that blocks
            is_first = False
        yield chunk


async def test_files_are_asked_for_and_deleted() -> None:
    """A file that is not there is deleted already, also where the API says so with a 403."""
    body = orjson.dumps({"name": "files/in", "state": "PROCESSING", "sizeBytes": "7"})
    answers = [
        whole(body),
        error(404, "NOT_FOUND"),
        whole(b"{}"),
        whole(b"{}"),
        error(404, "X"),
        error(403, "X", "You do not have permission to access the File in or it may not exist."),
        error(403, "X"),
    ]
    async with answering(answers) as api, files(api.base_url) as opened:
        file = await opened.get("files/in")
        assert not isinstance(file, ApiError | Failure)
        assert (file.state, file.size_bytes) == ("PROCESSING", 7)
        assert isinstance(await opened.get("files/in"), ApiError)
        assert isinstance(await opened.get("files/in"), Failure)
        assert [await opened.delete("files/in") for _ in range(3)] == [None] * 3
        assert isinstance(await opened.delete("files/in"), ApiError)


async def test_a_redacted_line_shows_no_key() -> None:
    """A server that repeats the key in a result is shown without it."""
    body = orjson.dumps({"key": "0.ab", "error": {"code": 3, "message": f"bad key {KEY}"}}) + b"\n"
    body += b'{"key":"1.ab","response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"!"}}]}}]}}'
    body += base64.b64encode(KEY.encode()) + b"\n"
    async with answering([whole(body)]) as api, files(api.base_url) as opened:
        found = [each async for each in Results(opened, NAME, Sink).lines()]
    assert [each.key for each in found] == ["0.ab", "1.ab"]
    assert KEY not in repr(found)
    assert "[key]" in repr(found[0].outcome)
