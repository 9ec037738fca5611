"""Compressed bodies that were not asked for: whole, cut off, in many frames, and without an end."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gemini_batch.client import decompression
from gemini_batch.client import receiver as receiver_module
from gemini_batch.client.body_decoder import BodyDecoder, decoded
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.receiver import Receiver
from gemini_batch.records import FailureKind
from tests.unit.client.extracting import PIXEL, answer, chunked
from tests.unit.client.test_receiver import Received, pictures, receive


def raw_deflate(body: bytes) -> bytes:
    """Compress without any header."""
    return zlib.compress(body)[2:-4]


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (gzip.compress(answer(), mtime=0)[:5], ""),  # within the header
        (gzip.compress(answer(), mtime=0)[:11], "gzip"),
        (zlib.compress(answer())[:3], "deflate"),
        (raw_deflate(answer())[:1], "deflate"),
        (gzip.compress(gzip.compress(answer(), mtime=0)[:11], mtime=0), ""),
        (gzip.compress(gzip.compress(answer(), mtime=0), mtime=0)[:25], ""),
        (gzip.compress(b"\n  " + answer(), 0, mtime=0)[:18], ""),  # white space alone
        (gzip.compress("  ".encode("utf-16"), 0, mtime=0)[:-9], ""),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_body_that_is_cut_before_anything_can_be_read(
    packed: bytes, encoding: str, size: int
) -> None:
    """It is malformed, and not empty or another server's; the answer is kept from its first byte."""
    receiver, _ = receive(packed, [size], encoding)

    with pytest.raises(MalformedAnswerError, match="breaks off after") as caught:
        receiver.finish()
    assert caught.value.kind is FailureKind.MALFORMED
    assert b"".join(receiver.body()) == packed


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_body_that_is_cut_later_is_kept_as_far_as_it_could_be_read(size: int) -> None:
    """What is kept then is JSON, and no compressed byte is among it."""
    receiver, _ = receive(gzip.compress(answer(), mtime=0)[:-30], [size])
    with pytest.raises(MalformedAnswerError, match="breaks off after"):
        receiver.finish()
    found = b"".join(receiver.body())
    assert len(found) > 5
    assert answer().startswith(found)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_compressed_body_of_nothing_is_empty(pack: Callable[[bytes], bytes]) -> None:
    """A body that was compressed whole, and holds nothing, is an empty answer."""
    receiver, _ = receive(pack(b""))
    with pytest.raises(MalformedAnswerError, match="is empty") as caught:
        receiver.finish()
    assert caught.value.kind is FailureKind.NOT_AN_ANSWER


@pytest.mark.parametrize("missing", range(1, 9))
def test_an_answer_that_is_whole_needs_no_checksum(missing: int) -> None:
    """What is cut off behind the last bracket costs no picture."""
    assert pictures(gzip.compress(answer(), mtime=0)[:-missing]) == [PIXEL]


@pytest.mark.parametrize("size", [1, 2, 3, 11, 1000])
def test_frames_follow_one_another(size: int) -> None:
    """Each frame counts, an empty one too, wherever the chunks are cut; other bytes end them."""
    body = answer()
    frames = (body[:9], b"", body[9:30], body[30:])
    packed = b"".join(gzip.compress(frame, mtime=0) for frame in frames)
    assert pictures(packed, [size]) == [PIXEL]
    assert pictures(packed + b"\0" * 50, [size]) == [PIXEL]


class FakeZstd:
    """A frame of a compression that begins with its magic number, and ends in a point."""

    def __init__(self) -> None:
        self.eof, self.unused_data, self._seen = False, b"", b""

    def decompress(self, chunk: bytes, _max_bytes: int) -> bytes:
        """Return the text of the frame."""
        text, point, rest = chunk.partition(b".")
        before, self._seen = self._seen, self._seen + text
        self.eof, self.unused_data = bool(point), rest
        return self._seen[4:][max(0, len(before) - 4) :]


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_frames_of_zstd_follow_one_another(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that begins with a chunk is not lost, and a cut one is known."""

    class Module:
        ZstdDecompressor = FakeZstd

    monkeypatch.setattr(decompression, "_zstd", lambda: Module)
    magic = b"\x28\xb5\x2f\xfd"
    packed = b"".join(magic + piece + b"." for piece in (b'{"a":', b"", b"1}"))
    decoder = BodyDecoder()
    found = [b"".join(decoder.decode(chunk)) for chunk in chunked(packed, [size])]
    assert b"".join([*found, *decoder.decode(b"", is_last=True)]) == b'{"a":1}'

    cut = BodyDecoder()
    with pytest.raises(MalformedAnswerError, match="breaks off"):
        list(cut.decode(packed[:-1], is_last=True))


def test_what_follows_the_last_frame_takes_no_memory() -> None:
    """A server that sends on behind the end of a compressed body fills nothing."""
    decoder = decompression.decompressor(gzip.compress(b"{")[:8], "")
    assert decoder is not None
    assert b"".join(decoder.pieces(gzip.compress(b"{"))) == b"{"
    for _ in range(3):
        assert not b"".join(decoder.pieces(b"\x1f\0" * 1000))
    frame: Any = decoder
    assert len(frame._frame.unused_data) < 10


def test_a_header_without_end_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file name of gzip that never ends is bounded as any other body is."""
    monkeypatch.setattr(receiver_module, "MAX_BODY_BYTES", 100_000)

    def endless() -> Iterator[bytes]:
        yield b"\x1f\x8b\x08\x08" + b"\0" * 6
        while True:
            yield b"x" * 10_000

    receiver = Receiver(Received(), "gzip")
    for chunk in endless():
        for _ in receiver.feed(chunk):
            pass
        if receiver.is_done:
            break
    assert not receiver.has_room
    with pytest.raises(MalformedAnswerError, match="more than 100,000 bytes") as caught:
        receiver.finish()
    assert caught.value.kind is FailureKind.TOO_LARGE


def test_the_text_of_an_error_that_is_cut_off_is_shown_as_far_as_it_came() -> None:
    """An error page need not be whole to be read."""
    page = gzip.compress(b"Bad gateway " * 5, 0, mtime=0)[:-20]
    assert decoded(page, "gzip", 1000).startswith(b"Bad gateway")
