"""The image extractor and chunks: cuts, writes, memory and work."""

import base64
import random
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from gemini_batch.client import answer_paths, data_uris, envelope, json_strings
from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.client.malformed import MalformedAnswerError
from tests.unit.client.extracting import (
    CLOSE,
    OPEN,
    Null,
    Sink,
    Sinks,
    answer,
    b64,
    chunked,
    extract,
)

# Everything that a chunk could cut badly: escapes in keys and data, a surrogate pair, UTF-8,
# padding, two images.
NASTY = (
    rb' {"candidates": [ {"content": {"p\u0061rts": [{"text": "a\"\\\u00e9\ud83d\ude00 '
    + "é\U0001f600".encode()
    + rb'"}, {"inlineData": {"data": "\/\/\u002b+QU\u004ADQUI\u003d", "mimeType": "image\/png"}, "thoughtSignature": "QQ"},'
    rb' {"inlineData": {"\u0064at\u0061":"QUJDRA=="}}]}, "n": -1.5e3}], "usage": {"data": "QQ=="} } '
)
NASTY_IMAGES = [base64.b64decode("//++QUJDQUI="), b"ABCD"]


def test_every_cut_and_every_chunk_size_gives_the_same() -> None:
    """No cut, and no size of chunks down to one byte, changes the images or the envelope."""
    whole = extract([NASTY])
    assert whole[1] == NASTY_IMAGES
    for at in range(len(NASTY) + 1):
        assert extract([NASTY[:at], b"", NASTY[at:]]) == whole
        assert extract(chunked(NASTY, [at + 1])) == whole


def test_every_truncation_is_refused() -> None:
    """`is_closed` is true from the last bracket on, and a shorter answer is refused."""
    body = NASTY.rstrip()
    for stop in range(len(body)):
        extractor = ImageExtractor(Sinks().open)
        extractor.feed(body[:stop])
        assert not extractor.is_closed
        why = f"breaks off after {stop} bytes" if stop > 1 else "is empty"
        with pytest.raises(MalformedAnswerError, match=why):
            extractor.finish()
    extractor = ImageExtractor(Sinks().open)
    for piece in (body, b" \r\n", b"\t"):
        extractor.feed(piece)
        assert extractor.is_closed
    assert extractor.finish() == extract([NASTY])[0]


def test_each_chunk_goes_to_its_image_in_one_write() -> None:
    """The part of an image in a chunk is written at once, except an incomplete group."""
    image = random.Random(1).randbytes(100_000)
    body = answer(b64(image))
    start, size = len(OPEN), len(b64(image))
    pieces: list[bytes] = []

    class Pieces(Sink):
        def write(self, data: Any, /) -> int:
            pieces.append(bytes(data))
            return len(data)

    extractor = ImageExtractor(lambda _: Pieces())
    for count, chunk in enumerate(chunked(body, [1021]), 1):
        before = len(pieces)
        extractor.feed(chunk)
        assert len(pieces) <= before + 1
        assert len(b"".join(pieces)) == min(
            max(0, min(count * 1021 - start, size)) // 4 * 3, len(image)
        )
    assert b"".join(pieces) == image


def test_memory_is_that_of_a_chunk() -> None:
    """An image of any size takes the memory of a few chunks."""
    chunk = b64(random.Random(1).randbytes(3 << 14))
    extractor = ImageExtractor(lambda _: Null())
    extractor.feed(OPEN + b"QU")  # these two carry over, so that every chunk is joined to them
    tracemalloc.start()
    try:
        for _ in range(100):
            extractor.feed(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(chunk)


class Tally:
    """Counts the bytes that are searched, by `find` or by a pattern."""

    def __init__(self) -> None:
        self.bytes = 0
        tally = self

        class Chunk(bytes):
            """A chunk that counts, also after something was put in front of it."""

            def find(self, wanted: Any, start: Any = 0, stop: Any = None, /) -> int:
                at = super().find(wanted, start, stop)
                tally.bytes += (at if at >= 0 else len(self) if stop is None else stop) - start
                return at

            def __radd__(self, head: bytes) -> bytes:
                return Chunk(bytes.__add__(head, self))

        self.chunk: Callable[[bytes], bytes] = Chunk

    def pattern(self, pattern: "re.Pattern[bytes]") -> SimpleNamespace:
        """Return a pattern that counts."""

        def counted(
            method: Callable[..., "re.Match[bytes] | None"], text: bytes, pos: int = 0, *stop: int
        ) -> object:
            found = method(text, pos, *stop)
            self.bytes += (found.end() if found else stop[0] if stop else len(text)) - pos
            return found

        return SimpleNamespace(
            search=partial(counted, pattern.search), match=partial(counted, pattern.match)
        )


@pytest.mark.parametrize("size", [1, 2, 7, 4096, 1 << 20])
@pytest.mark.parametrize("escape", [b"A", rb"\/", rb"\u002f"])
def test_nothing_is_searched_again(
    monkeypatch: pytest.MonkeyPatch, size: int, escape: bytes
) -> None:
    """At most about three times the bytes fed are searched, for any chunking."""
    tally = Tally()
    for module in (answer_paths, data_uris, envelope, json_strings):
        for name, value in list(vars(module).items()):
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, tally.pattern(value))
    long = (b"A" * 31 + escape) * 200
    body = OPEN + long + b'","thoughtSignature":"' + long + CLOSE
    _, found = extract(tally.chunk(piece) for piece in chunked(body, [size]))
    assert [len(image or b"") for image in found] == [200 * 24]
    assert len(body) < tally.bytes < 3 * len(body) + 1000
