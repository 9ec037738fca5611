"""Bodies in any dress, and those that can't be read: built from known images, and found again."""

import base64
import gzip
import json
import random
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.receiver import Receiver
from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, IncomingImage, Reply
from tests.dresses import BODIES, DRESSES, answers, dressed, events, png
from tests.unit.client.extracting import PIXEL, Sink, Sinks, answer, b64, chunked


class Received(Sinks):
    """The sink of one answer in memory."""

    aside: Sink | None = None

    def open_image(self, index: int, /) -> Sink:
        """Open the next sink."""
        return self.open(index)

    def open_aside(self) -> Sink:
        """Open the sink of the rest."""
        self.aside = Sink()
        return self.aside

    def keepable(self, body: Iterable[bytes], /) -> None:
        """Do nothing."""

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        """Do nothing."""

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images, each named by its number."""
        found = (
            (str(number), sink.getvalue() if sink.image is None else sink.image)
            for number, sink in enumerate(self)
        )
        return tuple(IncomingImage(name, len(data), "", data[:64]) for name, data in found)


def receive(
    body: bytes, sizes: Iterable[int] = (1000,), encoding: str = ""
) -> tuple[Receiver, Received]:
    """Receive a body in chunks, as a transport does."""
    sink = Received()
    receiver = Receiver(sink, encoding)
    for chunk in chunked(body, sizes):
        if receiver.is_done:
            break
        for _ in receiver.feed(chunk):
            pass
    if not receiver.is_done:
        for _ in receiver.feed(b"", is_last=True):
            pass
    return receiver, sink


def pictures(body: bytes, sizes: Iterable[int] = (1000,), encoding: str = "") -> list[bytes]:
    """Return the result of a body, and its drafts before it."""
    receiver, sink = receive(body, sizes, encoding)
    reply = parse_answer(Answer(200, receiver.finish(), sink.arrived()))
    assert isinstance(reply, Reply), reply
    assert reply.image is not None
    return [sink[int(image.file)].image or b"" for image in (*reply.drafts, reply.image)]


# --- any dress ---


@given(answers(), dressed(), st.lists(st.integers(1, 400), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
@pytest.mark.promise("kept")
def test_a_paid_picture_is_kept_in_any_dress(
    made: tuple[list[bytes], list[dict[str, Any]]], dress: Callable[[Any], bytes], sizes: list[int]
) -> None:
    """An answer of known images, in a random dress and cut anywhere, has exactly these images."""
    images, documents = made
    assert pictures(dress(documents), sizes) == images


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize("dress", [*DRESSES, *BODIES])
def test_each_dress_alone(dress: str, size: int) -> None:
    """Each of the dresses, of the data and of the body, in chunks of any size."""
    image = png(7)
    wrap = DRESSES.get(dress, DRESSES["plain"])
    document = {"candidates": [{"content": {"parts": [wrap(image)]}, "finishReason": "STOP"}]}
    body = BODIES.get(dress, BODIES["one object"])([document])
    assert pictures(body, [size]) == [image]


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress),
        ("gzip", zlib.compress),
        ("GZIP ", lambda body: body),
        ("deflate", zlib.compress),
        ("deflate", lambda body: zlib.compress(body)[2:-4]),
        ("br", lambda body: body),
        ("identity", gzip.compress),
        ("", lambda body: gzip.compress(gzip.compress(body))),
        ("", lambda body: gzip.compress(body[:30]) + gzip.compress(body[30:]) + b"\0\0"),
    ],
)
def test_the_first_bytes_count_more_than_the_header(
    encoding: str, packed: Callable[[bytes], bytes]
) -> None:
    """A Content-Encoding that is wrong, absent or twice applied costs no answer."""
    assert pictures(packed(answer()), [50], encoding) == [PIXEL]


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (b"\x1b\x10\0\xf8", "br", "is compressed with 'br', which was not asked for"),
        (b"\xfd7zXZ\0", "xz", "is compressed with 'xz', which was not asked for"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 20, "", "zstd"),
        (b"\x01\x02\x03\x04\x05\x06\x07\x08", "gzip", "is not valid gzip, which its headers name"),
        (
            gzip.compress(answer(), mtime=0)[:10] + b"\xff" * 40,
            "gzip",
            "is damaged: it is not a valid deflate",
        ),
        (gzip.compress(answer(), mtime=0)[:-30], "", "breaks off after"),
    ],
)
def test_a_compression_that_can_not_be_undone_is_named(
    body: bytes, encoding: str, says: str
) -> None:
    """It is malformed, in a short sentence, and all that came of it is kept."""
    receiver, _ = receive(body, [30], encoding)

    with pytest.raises(MalformedAnswerError, match=says) as caught:
        receiver.finish()
    assert len(str(caught.value)) < 120
    assert b"".join(receiver.body())


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_of_events_end_in_each_allowed_way(end: bytes, size: int) -> None:
    """An event may have many lines, which end in LF, CRLF or CR, also between two chunks."""
    lines = json.dumps(orjson.loads(answer()), indent=1).encode().split(b"\n")
    stream = [b": hi", b"event: message", *(b"data: " + line for line in lines), b"", b"id: 7"]

    receiver, sink = receive(end.join([*stream, b"data: [DONE]", b"", b""]), [size])

    assert orjson.loads(receiver.finish())["candidates"]
    assert [each.image for each in sink] == [PIXEL]


@pytest.mark.parametrize(
    "stream",
    [
        b'data: {"a":1}\n\n' + events([{"candidates": [{"finishReason": "STOP"}]}]),
        b": hello\n\nevent: ping\ndata: keep-alive\n\ndata: %b\n\ndata: [DONE]\n\ndata: {"
        % answer(),
        b"id: 1\nretry: 5\ndata:%b\n" % answer(),
        b"\xef\xbb\xbfdata : %b" % answer(),
        b"data: " + json.dumps(orjson.loads(answer()), indent=1).encode(),
        b"data: [%b]\n\n" % answer(),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_of_any_kind_are_read(stream: bytes, size: int) -> None:
    """Other events and fields are skipped, and `[DONE]` ends the stream."""
    receiver, sink = receive(stream, [size])
    assert isinstance(orjson.loads(receiver.finish()), dict | list)
    assert [each.image for each in sink] in ([], [PIXEL])
    assert bool(sink) == (b"inlineData" in stream)


# --- what can't be read ---


def normalized(body: bytes) -> Any:
    """Return the bytes without what a body may lose on the way."""
    return body.strip(b" \t\r\n")


@given(st.integers(0, 2**32), st.lists(st.integers(50, 30_000), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_can_not_be_read_is_kept_as_it_came(seed: int, sizes: list[int]) -> None:
    """A body that is damaged anywhere can be put together again, to the byte."""
    rng = random.Random(seed)
    long = b64(rng.randbytes(15_000)).decode()
    parts = [
        {"text": "hi"},
        {"x": long},
        {"inlineData": {"data": b64(rng.randbytes(300)).decode()}},
    ]
    document = {
        "candidates": [{"content": {"parts": parts * 2}, "finishReason": "STOP"}],
        "y": long,
    }
    body = bytearray(orjson.dumps(document))
    at = rng.randrange(1, len(body))
    body[at : at + rng.choice([0, 1])] = rng.choice([b"\xff", b"!", b"}", b']"', b"\\x", b"=", b""])
    stop = rng.choice([len(body), rng.randrange(at, len(body) + 1)])

    receiver, _ = receive(bytes(body[:stop]), sizes)

    found = b"".join(receiver.body())
    if receiver.error is None:
        assert normalized(found) == normalized(bytes(body[:stop]))
    else:
        assert bytes(body[:stop]).startswith(found)


def test_what_follows_an_error_is_kept() -> None:
    """After the first byte that can't be read, the rest is set aside as it comes."""
    body = answer(b64(PIXEL) * 3) + b'{"more": "}'
    sink = Received()
    receiver = Receiver(sink, "")
    for chunk in chunked(body, [40]):
        for _ in receiver.feed(chunk):
            pass

    assert receiver.error is not None
    assert b"".join(receiver.body()) == body


def test_signatures_and_the_dress_of_base64_are_not_kept() -> None:
    """A body is kept without its signatures, and with base64 in the standard alphabet."""
    signature = "c2ln" * 5000
    data = base64.urlsafe_b64encode(b"\xff" * 30).decode().rstrip("=")
    body = orjson.dumps(
        {
            "candidates": [
                {
                    "content": {
                        "parts": [
                            {
                                "inlineData": {"data": f"data:;base64,{data}"},
                                "thoughtSignature": signature,
                            }
                        ]
                    }
                }
            ]
        }
    )[:-1]
    receiver, _ = receive(body)

    expected = body.replace(b"data:;base64,", b"").replace(data.encode(), b64(b"\xff" * 30))
    assert b"".join(receiver.body()) == expected.replace(signature.encode(), b"")


def test_a_web_page_is_not_kept() -> None:
    """There is no picture in it."""
    receiver, _ = receive(b"<html>Sign in</html>")
    assert b"".join(receiver.body()) == b""
