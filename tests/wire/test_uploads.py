"""Resumable uploads over scripted connections: chunks, breaks, and a URL that is a secret."""

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from gemini_batch.client import files as client_files
from gemini_batch.client import uploading
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.client.request_json import Segment
from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import RemoteFile
from tests.wire.peers import KEY, Peer, image_of, whole
from tests.wire.rest_peers import Answer, Got, answering, close, error, files, ok, reset

UPLOAD_ID = "AbCdEf-0123456789_secret"
SECRET = f"upload_id={UPLOAD_ID}"
DATA = bytes(range(65, 91)) * 4
UNIT = 16
FILE = {"name": "files/in", "sizeBytes": str(len(DATA)), "state": "ACTIVE"}
UPLOADED = RemoteFile("files/in", "ACTIVE", len(DATA))
pytestmark = pytest.mark.usefixtures("small_chunks")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send chunks of 32 bytes, and let tries follow at once."""
    monkeypatch.setattr(uploading, "CHUNK_BYTES", 2 * UNIT)
    monkeypatch.setattr(uploading, "FIRST_PAUSE_S", 0.0)


def start(url: str = f"https://elsewhere.test/upload/x?{SECRET}", unit: str = str(UNIT)) -> bytes:
    """Return the answer that begins an upload."""
    return ok(
        {},
        f"X-Goog-Upload-URL: {url}",
        "X-Goog-Upload-Status: active",
        f"X-Goog-Upload-Chunk-Granularity: {unit}",
    )


def active(received: int | None = None) -> bytes:
    """Return the answer to a chunk, or to a query."""
    size = [] if received is None else [f"X-Goog-Upload-Size-Received: {received}"]
    return whole(b"", "X-Goog-Upload-Status: active", *size)


FINAL = ok({"file": FILE}, "X-Goog-Upload-Status: final")


async def upload(
    *answers: Answer, segments: tuple[Segment, ...] = (DATA,), size_bytes: int = len(DATA)
) -> tuple[Any, list[Got]]:
    """Upload a file; return the outcome and the requests that arrived."""
    async with answering(answers) as api, files(api.base_url) as opened:
        outcome = await opened.upload("mine", size_bytes, lambda: segments)
    return outcome, api.got


def sent(got: list[Got]) -> list[tuple[str, int, int]]:
    """Return command, offset and size of each request to the upload's URL."""
    return [
        (
            each.headers["x-goog-upload-command"],
            int(each.headers.get("x-goog-upload-offset", -1)),
            len(each.body),
        )
        for each in got[1:]
    ]


CHUNKS = [("upload", 0, 32), ("upload", 32, 32), ("upload", 64, 32), ("upload, finalize", 96, 8)]


async def test_a_file_is_sent_in_chunks() -> None:
    """All chunks but the last are multiples of the granularity; the last one ends the upload."""
    outcome, got = await upload(start(), active(), active(), active(), FINAL)
    assert outcome == UPLOADED
    assert sent(got) == CHUNKS
    assert b"".join(each.body for each in got[1:]) == DATA
    assert got[0].target == "/upload/v1beta/files"
    headers = {name: value for name, value in got[0].headers.items() if "upload" in name}
    assert headers == {
        "x-goog-upload-protocol": "resumable",
        "x-goog-upload-command": "start",
        "x-goog-upload-header-content-length": str(len(DATA)),
        "x-goog-upload-header-content-type": "text/plain",
    }
    assert b'"mimeType":"text/plain"' in got[0].body


async def test_the_key_and_the_bytes_go_to_no_other_host() -> None:
    """The upload's URL is taken as one of this server, and gets no key."""
    _, got = await upload(start(), active(), active(), active(), FINAL)
    assert [each.target for each in got[1:]] == [f"/upload/x?{SECRET}"] * 4
    assert ["x-goog-api-key" in each.headers for each in got] == [True] + [False] * 4


@pytest.mark.parametrize(
    ("unit", "size"),
    [("48", 48), ("64", 64), ("7", 28), ("", 32), ("x", 32), ("-16", 32), ("0", 32)],
)
async def test_the_granularity_is_the_servers(
    monkeypatch: pytest.MonkeyPatch, unit: str, size: int
) -> None:
    """Chunks are whole units, at least one; where the server names none, of the usual size."""
    monkeypatch.setattr(uploading, "GRANULARITY_BYTES", 32)
    _, got = await upload(start(unit=unit), active(), active(), active(), FINAL)
    assert sent(got)[0] == ("upload", 0, size)


async def test_segments_are_streamed(tmp_path: Path) -> None:
    """Images are read from disk and encoded on the way."""
    (tmp_path / "a").write_bytes(b"picture")
    image = image_of(tmp_path / "a")
    outcome, got = await upload(
        start(), FINAL, segments=(b'{"data":"', image, b'"}\n'), size_bytes=24
    )
    assert isinstance(outcome, Failure)  # the file that the server names is of another size
    assert got[1].body == b'{"data":"cGljdHVyZQ=="}\n'


async def cut(peer: Peer, got: Got) -> None:
    """Take half of a chunk, and break the connection."""
    got.body = await peer.reader.readexactly(int(got.headers["content-length"]) // 2)
    peer.reset()
    await peer.hang()


BREAKS: dict[str, Answer] = {
    "reset": reset,
    "closed": close,
    "cut within the chunk": cut,
    "503": error(503, "UNAVAILABLE"),
    "500": whole(b"<html>", status="500 X"),
    "no status": whole(b""),
    "409": error(409, "ABORTED"),
    "400 for the offset": error(400, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize("received", [0, 32, 48])
@pytest.mark.parametrize("name", BREAKS)
async def test_a_break_is_continued_where_the_server_stands(name: str, received: int) -> None:
    """After a chunk without an answer the server is asked, and gets what it lacks, once."""
    chunks = -(-(len(DATA) - received) // 32)
    rest: list[Answer] = [*[active()] * (chunks - 1), FINAL]
    outcome, got = await upload(start(), active(), BREAKS[name], active(received), *rest)
    if name.startswith("400") and received == 32:
        assert isinstance(outcome, ApiError)  # the server stands where the chunk begins
        return
    assert outcome == UPLOADED
    assert sent(got)[2] == ("query", -1, 0)
    whole_file = DATA[:received] + b"".join(each.body for each in got[4:])
    assert whole_file == DATA


async def test_a_query_may_fail_as_well() -> None:
    """The chunk is sent again, and the server asked again, for as long as there are tries."""
    answers: list[Answer] = [
        start(),
        reset,
        reset,
        error(400, "INVALID_ARGUMENT"),
        active(64),
        active(),
        FINAL,
    ]
    outcome, got = await upload(*answers)
    assert outcome == UPLOADED
    assert [each[0] for each in sent(got)] == [
        "upload", "query", "upload", "query", "upload", "upload, finalize",
    ]  # fmt: skip


async def test_an_upload_that_ended_unseen_is_found() -> None:
    """The answer to the last chunk was lost; the query has the file, or it is sent once more."""
    outcome, _ = await upload(start(), active(), active(), active(), reset, FINAL)
    assert outcome == UPLOADED
    nameless = whole(b"", "X-Goog-Upload-Status: final")
    answers: list[Answer] = [start(), active(), active(), active(), reset, nameless]
    outcome, got = await upload(*answers, start(), active(), active(), active(), FINAL)
    assert outcome == UPLOADED
    assert [each.headers["x-goog-upload-command"] for each in got].count("start") == 2


async def test_all_is_there_but_not_final() -> None:
    """A last chunk that the server did not end with is ended without bytes."""
    outcome, got = await upload(start(), active(), active(), active(), active(), active(104), FINAL)
    assert outcome == UPLOADED
    assert sent(got)[-1] == ("upload, finalize", 104, 0)


LOST: dict[str, Answer] = {
    "404": error(404, "NOT_FOUND"),
    "410": whole(b"", status="410 Gone"),
    "cancelled": whole(b"", "X-Goog-Upload-Status: cancelled"),
    "no number": active(),
    "too much": active(1000),
}


@pytest.mark.parametrize("name", LOST)
async def test_a_lost_session_is_begun_again(name: str) -> None:
    """An upload costs nothing: it begins again, but not for ever."""
    again: list[Answer] = [start(), active(), active(), active(), FINAL]
    outcome, _ = await upload(start(), active(), reset, LOST[name], *again)
    assert outcome == UPLOADED
    outcome, got = await upload(*(start(), reset, LOST[name]) * 5)
    assert isinstance(outcome, Failure)
    assert "lost the upload 3 times" in outcome.message
    assert len(got) == 9


@pytest.mark.parametrize("place", ["start", "chunk"])
async def test_tries_are_bounded(place: str) -> None:
    """A server that never accepts anything is left with its error."""
    answers = (
        [error(503, "UNAVAILABLE")] if place == "start" else [start(), error(503, "UNAVAILABLE")]
    )
    outcome, got = await upload(*answers)
    assert isinstance(outcome, ApiError)
    assert outcome.http_status == 503
    assert len(got) == {"start": 6, "chunk": 12}[place]


async def test_progress_renews_the_tries() -> None:
    """A connection that breaks at each chunk gets the file through all the same."""
    answers: list[Answer] = [start()]
    for received in range(8, len(DATA), 8):
        answers += [reset, active(received)]
    outcome, _ = await upload(*answers, FINAL)
    assert outcome == UPLOADED


REFUSALS: dict[str, tuple[list[Answer], int]] = {
    "a type that is not supported": (
        [ok({"error": {"code": 400, "message": "Unsupported MIME type: text/plain"}}, "X-Goog-Upload-Status: final")],
        400,
    ),
    "the same as a status": ([error(400, "INVALID_ARGUMENT"), active(0)], 400),
    "the same, and the session is gone": ([error(400, "INVALID_ARGUMENT"), error(404, "NOT_FOUND")], 400),
    "no room for files": ([error(429, "RESOURCE_EXHAUSTED")], 429),
    "too large": ([error(413, "INVALID_ARGUMENT")], 413),
    "not allowed": ([error(403, "PERMISSION_DENIED")], 403),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_ends_the_upload(name: str) -> None:
    """What would be refused again is not sent again."""
    answers, status = REFUSALS[name]
    outcome, got = await upload(start(), *answers)
    assert isinstance(outcome, ApiError)
    assert outcome.http_status == status
    assert len(got) == 1 + len(answers)
    outcome, got = await upload(error(status, "X"))
    assert isinstance(outcome, ApiError)
    assert len(got) == 1


@pytest.mark.parametrize("url", ["", "/", "https://x.test", "http://[", "?", "//"])
async def test_an_upload_without_a_url_is_none(url: str) -> None:
    """A server, or a gateway, that does not name the URL can't take the file."""
    outcome, got = await upload(start(url))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.NOT_AN_ANSWER
    assert len(got) == 1


async def test_a_relative_url_is_one_of_this_server() -> None:
    """A gateway may name the path alone."""
    outcome, got = await upload(start(f"/there?{SECRET}"), active(), active(), active(), FINAL)
    assert outcome == UPLOADED
    assert got[1].target == f"/there?{SECRET}"


async def test_a_file_of_another_size_is_refused() -> None:
    """The server's count is compared with what was sent."""
    other = ok({"file": FILE | {"sizeBytes": "7"}}, "X-Goog-Upload-Status: final")
    outcome, _ = await upload(start(), active(), active(), active(), other)
    assert isinstance(outcome, Failure)
    assert outcome.message == "the server has 7 bytes of the uploaded file, and 104 were sent"
    uncounted = ok({"file": {"name": "files/in"}}, "X-Goog-Upload-Status: final")
    outcome, _ = await upload(start(), active(), active(), active(), uncounted)
    assert outcome == RemoteFile("files/in")


@pytest.mark.parametrize(("looks", "outcome_is"), [(1, "usable"), (3, "usable"), (100, "late")])
async def test_a_file_that_is_processed_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, looks: int, outcome_is: str
) -> None:
    """A file can be used once it is ACTIVE; no one waits for it for ever."""
    monkeypatch.setattr(client_files, "PROCESSING_PAUSE_S", 1e-6)
    monkeypatch.setattr(client_files, "PROCESSING_S", 5e-6)
    processing = FILE | {"state": "PROCESSING"}
    final = ok({"file": processing}, "X-Goog-Upload-Status: final")
    answers = [start(), active(), active(), active(), final, *[ok(processing)] * (looks - 1)]
    outcome, got = await upload(*answers, ok(FILE))
    assert outcome == UPLOADED if outcome_is == "usable" else isinstance(outcome, Failure)
    assert {each.target for each in got[5:]} == {"/v1beta/files/in"}


async def test_an_image_that_changed_ends_the_upload(tmp_path: Path) -> None:
    """The reference image is named, and nothing is tried again."""
    (tmp_path / "a.png").write_bytes(b"picture")
    image = image_of(tmp_path / "a.png")
    os.utime(image.file, ns=(1, 1))
    outcome, got = await upload(start(), hang, segments=(b"x" * 20, image), size_bytes=32)
    assert outcome == Failure(
        FailureKind.INPUT_CHANGED,
        "in/a.png: changed since the run began; run again",
        may_be_billed=False,
    )
    assert len(got) in {1, 2}  # the head of the chunk may have arrived


async def hang(peer: Peer, _: Got) -> None:
    """Read until the client goes away."""
    await peer.hang()


async def echo(peer: Peer, got: Got) -> None:
    """Repeat the upload's URL, and its parts, in an error."""
    text = f"bad: https://elsewhere.test{got.target} {UPLOAD_ID} {UPLOAD_ID.lower()}"
    await peer.say(error(403, "PERMISSION_DENIED", text, "Connection: close"))
    peer.writer.close()
    await peer.hang()


@pytest.mark.parametrize("ends", [echo, reset, close, error(503, "UNAVAILABLE"), whole(b"<html>")])
async def test_the_url_of_an_upload_is_a_secret(
    ends: Answer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The URL lets anyone write the file: no outcome, no log and no output shows it."""
    asyncio.get_running_loop().set_debug(enabled=True)
    with caplog.at_level(logging.DEBUG):
        outcome, _ = await upload(start(), ends)
    assert not isinstance(outcome, RemoteFile)
    shown = repr(outcome) + caplog.text + "".join(capfd.readouterr())
    assert UPLOAD_ID.lower() not in shown.lower()
    assert KEY not in shown
    session = uploading._Session(URL(f"https://x.test/?{SECRET}"), 1, KeyRedactor(UPLOAD_ID))
    assert UPLOAD_ID not in repr(session)


class Fickle:
    """A server that keeps a file, and breaks connections as it is told."""

    def __init__(self, plan: list[int]) -> None:
        self.plan = plan
        self.data = bytearray()
        self.is_final = False

    async def answer(self, peer: Peer, got: Got) -> None:
        """Answer a request, or take some of its bytes and break."""
        command = got.headers["x-goog-upload-command"]
        length = int(got.headers.get("content-length", 0))
        if command == "start":
            await peer.reader.readexactly(length)
            self.data.clear()
            await peer.say(start())
            return
        if command == "query":
            await peer.say(FINAL if self.is_final else active(len(self.data)))
            return
        assert int(got.headers["x-goog-upload-offset"]) == len(self.data)
        step = self.plan.pop(0) if self.plan else 99
        taken = await peer.reader.readexactly(min(step, length))
        self.data += taken
        if len(taken) < length:
            await self._break(peer)
        self.is_final = "finalize" in command
        if step == length:  # all arrived, but the answer is lost
            await self._break(peer)
        await peer.say(FINAL if self.is_final else active())

    async def _break(self, peer: Peer) -> None:
        peer.reset()
        raise ConnectionResetError


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 40), max_size=8))
async def test_the_file_is_whole_whenever_the_connection_breaks(plan: list[int]) -> None:
    """Wherever connections break, each byte is in the file once, in its place."""
    server = Fickle(plan)
    async with answering([server.answer]) as api, files(api.base_url) as opened:
        outcome = await opened.upload("mine", len(DATA), pieces)
    assert outcome == UPLOADED
    assert bytes(server.data) == DATA


def pieces() -> Iterator[Segment]:
    """Yield the file in pieces of odd lengths."""
    for at in range(0, len(DATA), 7):
        yield DATA[at : at + 7]
