import base64
import io
import json
import random
import re
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, repeat
from types import SimpleNamespace
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.client import image_extractor
from gemini_batch.client.base64_image import MalformedAnswerError
from gemini_batch.client.image_extractor import ExtractorLimits, ImageExtractor
from gemini_batch.records import FailureKind

PIXEL = b"\x89PNG\r\n\x1a\n pixel"


class Sink(io.BytesIO):
    """Keeps what it was given."""

    image: bytes | None = None  # until it is closed

    def write(self, data: Any, /) -> int:
        """Take bytes, of which there must be some."""
        assert len(data), "an empty write"
        return super().write(data)

    def close(self) -> None:
        """Keep what came as the image."""
        if not self.closed:  # the garbage collector closes as well
            self.image = self.getvalue()
        super().close()


class Sinks(list[Sink]):
    """The sinks of one answer."""

    def open(self, index: int) -> Sink:
        """Open the next one."""
        assert index == len(self), "images are numbered in the order of arrival"
        self.append(Sink())
        return self[-1]


def feed_all(sieve: ImageExtractor, chunks: Iterable[bytes]) -> None:
    """Feed a sieve until there are no more chunks, or it has enough."""
    for chunk in chunks:
        sieve.feed(chunk)


def sift(
    chunks: Iterable[bytes], limits: ExtractorLimits | None = None
) -> tuple[bytes, list[bytes | None]]:
    """Return the skeleton and the images of an answer; None for an image that was not closed."""
    sinks = Sinks()
    sieve = ImageExtractor(sinks.open, limits) if limits else ImageExtractor(sinks.open)
    feed_all(sieve, chunks)
    return sieve.finish(), [sink.image for sink in sinks]


def chunked(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut a body into chunks of these sizes, over and over."""
    start = 0
    for size in cycle(sizes):
        if start >= len(body):
            return
        yield body[start : start + size]
        start += size


def b64(data: bytes) -> bytes:
    """Return base64 by another library than the sieve's."""
    return base64.b64encode(data)


OPEN = b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"'
CLOSE = b'"}}]}}]}'


def answer(data: bytes = b64(PIXEL)) -> bytes:
    """Return an answer with one image."""
    return OPEN + data + CLOSE


# --- any answer ------------------------------------------------------------------------------------------------------

PATH = ("candidates", "*", "content", "parts", "*", "inlineData", "data")


@dataclass
class Object:
    """A JSON object that may hold a key twice."""

    pairs: list[tuple[str, "Json"]]


Json: TypeAlias = "Object | list[Json] | str | int | float | bool | None"


@dataclass
class Written:
    """An answer as text, with what the sieve should make of it."""

    body: bytearray = field(default_factory=bytearray)
    skeleton: bytearray = field(default_factory=bytearray)
    data: list[str] = field(default_factory=list)

    def put(self, piece: bytes) -> None:
        """Write what is in the body and in the skeleton."""
        self.body += piece
        self.skeleton += piece


def write_string(text: str, chance: float, rng: random.Random) -> bytes:
    """Write a JSON string in which some characters are escaped that need not be."""
    out = bytearray(b'"')
    for char in text:
        if char in '"\\' or char < " " or rng.random() < chance:
            units = char.encode("utf-16-be").hex(" ", 2).split()
            escape = "".join(f"\\u{rng.choice([unit, unit.upper()])}" for unit in units)
            out += (
                b"\\" + char.encode() if char in '/"\\' and rng.random() < 0.5 else escape.encode()
            )
        else:
            out += char.encode()
    return bytes(out + b'"')


def write(node: Json, rng: random.Random, out: Written, path: tuple[str, ...] = ()) -> None:
    """Write JSON with random whitespace and escapes; the path says by itself which strings are images."""
    chance = rng.choice([0, 0, 0.1, 1])

    def gap() -> None:
        out.put(rng.choice([b"", b"", b" ", b"\n  ", b"\t\r\n"]))

    gap()
    if isinstance(node, Object):
        out.put(b"{")
        for place, (key, value) in enumerate(node.pairs):
            out.put(b"," if place else b"")
            gap()
            out.put(write_string(key, chance, rng))
            gap()
            out.put(b":")
            write(value, rng, out, (*path, key))
        out.put(b"}")
    elif isinstance(node, list):
        out.put(b"[")
        for place, item in enumerate(node):
            out.put(b"," if place else b"")
            write(item, rng, out, (*path, "*"))
        out.put(b"]")
    elif isinstance(node, str) and path == PATH:
        out.body += write_string(node, chance, rng)
        out.skeleton += b'"#%d"' % len(out.data)
        out.data.append(node)
    elif isinstance(node, str):
        out.put(write_string(node, chance, rng))
    else:
        out.put(json.dumps(node).encode())
    gap()


KEYS = ("text", *PATH, "thoughtSignature", "dat", "data ", "inline_data", "", 'a"\\é\U0001f600')
SCALARS: tuple[Json, ...] = (
    None,
    True,
    False,
    0,
    -1.5e300,
    2**53,
    "",
    "#0",
    "data",
    "/é\U0001f600\n\0",
    "\\",
    '"',
)
SCALARS += (
    "}",
    "]",
    "{[",
    "x" * 65,
    "QUJD",
    "QUI=",
    "QQ==",
    "-_8=",
    "QUI",
    "=",
    '{"data":"QUJD"}',
    answer().decode(),
)


class Dice:
    """Makes choices from bytes: one draw of hypothesis for each example, as hundreds would be slow. No bytes left is 0."""

    def __init__(self, entropy: bytes) -> None:
        self.entropy = iter(entropy)

    def roll(self, sides: int) -> int:
        """Return a number below `sides`."""
        return next(self.entropy, 0) % sides

    def any_json(self, depth: int) -> Json:
        """Return any JSON, with the keys of the path at the wrong places too."""
        match self.roll(3) if depth else 0:
            case 1:
                return [self.any_json(depth - 1) for _ in range(self.roll(4))]
            case 2:
                return Object(
                    [
                        (KEYS[self.roll(len(KEYS))], self.any_json(depth - 1))
                        for _ in range(self.roll(4))
                    ]
                )
            case _:
                return SCALARS[self.roll(len(SCALARS))]

    def down(self, path: tuple[str, ...] = PATH) -> Json:
        """Return JSON that mostly holds to the path: one or two of each step, with others around them in any order."""
        if path != PATH and self.roll(24) == 23:
            return self.any_json(3)
        if not path:
            return b64(bytes(self.roll(256) for _ in range(self.roll(20)))).decode()
        if path[0] == "*":
            return [self.down(path[1:]) for _ in range(1 + self.roll(2))]
        pairs = [(path[0], self.down(path[1:]))]
        for _ in range(self.roll(3)):
            key = KEYS[self.roll(len(KEYS))]
            again = self.roll(2) == 1
            pair = (path[0], self.down(path[1:])) if again else (key, self.any_json(4))
            pairs.insert(self.roll(len(pairs) + 1), pair)
        return Object(pairs)


answers = st.binary(min_size=50, max_size=1500).map(lambda entropy: Dice(entropy).down())
seeds = st.integers(0, 2**32)
chunk_sizes = st.lists(st.integers(1, 9) | st.integers(1, 200), min_size=1, max_size=5)


def written(node: Json, seed: int) -> Written:
    """Write an answer in one of many ways."""
    out = Written()
    write(node, random.Random(seed), out)
    return out


URL_SAFE = str.maketrans("-_", "+/")


def decoded(data: str) -> bytes | None:
    """Decode base64, of either alphabet, by the standard library; None when it refuses."""
    try:
        return base64.b64decode(data.translate(URL_SAFE), validate=True)
    except ValueError:
        return None


@given(answers, seeds, chunk_sizes)
@settings(max_examples=400, deadline=None)
def test_any_chunking_of_any_answer_gives_what_base64_gives_on_the_whole(
    node: Json, seed: int, sizes: list[int]
) -> None:
    """The images are those of the path, in order; the skeleton is the rest, byte for byte; bad base64 is an error."""
    want = written(node, seed)
    wanted = [decoded(data) for data in want.data]
    if None in wanted:
        with pytest.raises(MalformedAnswerError, match="base64"):
            sift(chunked(bytes(want.body), sizes))
        return
    skeleton, found = sift(chunked(bytes(want.body), sizes))
    assert (bytes(want.skeleton).rstrip(), wanted) == (skeleton, found)
    assert orjson.loads(want.skeleton) == orjson.loads(skeleton)


def with_images(node: Any, image_of: Callable[[str], bytes], path: tuple[str, ...] = PATH) -> Any:
    """Return a parsed answer with its images put in."""
    if not path:
        return image_of(node) if isinstance(node, str) else node
    if path[0] == "*":
        return (
            [with_images(item, image_of, path[1:]) for item in node]
            if isinstance(node, list)
            else node
        )
    if isinstance(node, dict) and path[0] in node:
        return {**node, path[0]: with_images(node[path[0]], image_of, path[1:])}
    return node


def read_whole(body: bytes) -> tuple[Any] | None:
    """Return what the plain way makes of an answer, up to where it closes; None when it refuses."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    for closer in re.finditer(rb"[}\]]", body):
        try:
            doc = orjson.loads(body[: closer.end()])
            return (with_images(doc, lambda data: base64.b64decode(data, validate=True)),)
        except ValueError:
            continue
    return None


def read_sifted(chunks: Iterable[bytes]) -> tuple[Any] | None:
    """Return what the sieve and its consumer make of an answer; None when one of them refuses."""
    try:
        skeleton, found = sift(chunks)
    except MalformedAnswerError:
        return None

    def image_of(placeholder: str) -> bytes:
        assert re.fullmatch(r"#\d+", placeholder)
        image = found[int(placeholder[1:])]
        assert image is not None
        return image

    try:
        doc = orjson.loads(skeleton)
    except orjson.JSONDecodeError:
        return None
    return (with_images(doc, image_of),)


DAMAGE = [
    *map(bytes, zip(b'"\\{}[]:,=#+ \n\x00\xff', strict=True)),
    b"\\u003d",
    b"\\u00",
    b"\\ud83d",
]


def damage(body: bytearray, rng: random.Random) -> None:
    """Change, drop, insert, repeat or cut off some bytes."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        at, stop = sorted(rng.choices(range(len(body) + 1), k=2))
        match rng.choice(["letter", "letter", "put", "drop", "repeat", "cut"]):
            case "letter":
                body[at : at + 1] = rng.choice([b"A", b"0", b"=", b"x"])
            case "put":
                body[at : at + rng.randint(0, 1)] = rng.choice(DAMAGE)
            case "drop":
                del body[at : min(stop, at + 4)]
            case "repeat":
                body[at:at] = body[at:stop]
            case "cut":
                del body[at:]


@given(answers, seeds, chunk_sizes)
@settings(max_examples=400, deadline=None)
def test_damaged_bytes_are_refused_or_mean_what_they_mean_to_the_plain_way(
    node: Json, seed: int, sizes: list[int]
) -> None:
    """Whatever arrives, the sieve raises SieveError or nothing, and what is accepted is what orjson and base64 accept."""
    body = written(node, seed).body
    damage(body, random.Random(seed))
    found = read_sifted(chunked(bytes(body), sizes))
    assert found is None or found == read_whole(bytes(body))


@given(
    st.binary(max_size=60) | st.text('{}[]":,\\ue+=A0 ', max_size=60).map(str.encode), chunk_sizes
)
@settings(max_examples=300, deadline=None)
def test_garbage_is_refused(garbage: bytes, sizes: list[int]) -> None:
    """Bytes that are no answer raise SieveError or nothing else, and are accepted only if they are JSON."""
    found = read_sifted(chunked(garbage, sizes))
    assert found is None or found == read_whole(garbage)


# --- chunks ----------------------------------------------------------------------------------------------------------

# Everything at which a chunk could end badly: escapes in keys and data, a surrogate pair, UTF-8, padding, two images.
NASTY = (
    rb' {"candidates": [ {"content": {"p\u0061rts": [{"text": "a\"\\\u00e9\ud83d\ude00 '
    + "é\U0001f600".encode()
    + rb'"}, {"inlineData": {"data": "\/\/\u002b+QU\u004ADQUI\u003d", "mimeType": "image\/png"}, "thoughtSignature": "QQ"},'
    rb' {"inlineData": {"\u0064at\u0061":"QUJDRA=="}}]}, "n": -1.5e3}], "usage": {"data": "QQ=="} } '
)
NASTY_IMAGES = [base64.b64decode("//++QUJDQUI="), b"ABCD"]


def test_every_cut_and_every_chunk_size_gives_the_same() -> None:
    """No place to cut, and no size of chunks down to one byte, changes the images or the skeleton."""
    whole = sift([NASTY])
    assert whole[1] == NASTY_IMAGES
    for at in range(len(NASTY) + 1):
        assert sift([NASTY[:at], b"", NASTY[at:]]) == whole
        assert sift(chunked(NASTY, [at + 1])) == whole


def test_every_truncation_is_refused() -> None:
    """An answer that breaks off anywhere is no answer, and `is_whole` is true from the last bracket on and no sooner."""
    body = NASTY.rstrip()
    for stop in range(len(body)):
        sieve = ImageExtractor(Sinks().open)
        sieve.feed(body[:stop])
        assert not sieve.is_whole
        with pytest.raises(MalformedAnswerError, match=f"breaks off after {stop} bytes"):
            sieve.finish()
    sieve = ImageExtractor(Sinks().open)
    for piece in (body, b" \r\n", b"\t"):
        sieve.feed(piece)
        assert sieve.is_whole
    assert sieve.finish() == sift([NASTY])[0]


def test_each_chunk_goes_to_its_image_in_one_write() -> None:
    """What a chunk holds of an image is written when the chunk is fed, all but an unfinished group, and in one piece."""
    image = random.Random(1).randbytes(100_000)
    body = answer(b64(image))
    start, size = len(OPEN), len(b64(image))
    pieces: list[bytes] = []

    class Pieces(Sink):
        def write(self, data: Any, /) -> int:
            pieces.append(bytes(data))
            return len(data)

    sieve = ImageExtractor(lambda _: Pieces())
    for count, chunk in enumerate(chunked(body, [1021]), 1):
        before = len(pieces)
        sieve.feed(chunk)
        assert len(pieces) <= before + 1
        assert len(b"".join(pieces)) == min(
            max(0, min(count * 1021 - start, size)) // 4 * 3, len(image)
        )
    assert b"".join(pieces) == image


class Null:
    """A sink that drops what it is given."""

    def write(self, data: bytes, /) -> None:
        """Drop it."""

    def close(self) -> None:
        """Do nothing."""


def test_memory_is_that_of_a_chunk() -> None:
    """An image of any size passes through in a few chunks' memory."""
    chunk = b64(random.Random(1).randbytes(3 << 14))
    sieve = ImageExtractor(lambda _: Null())
    sieve.feed(
        OPEN + b"QU"
    )  # these two stay over, so that every chunk has to be joined to the last
    tracemalloc.start()
    try:
        for _ in range(100):
            sieve.feed(chunk)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 3 * len(chunk)


class Tally:
    """Counts the bytes that the sieve looks through, whether by `find` or by a pattern."""

    def __init__(self) -> None:
        self.bytes = 0

    def pattern(self, pattern: "re.Pattern[bytes]") -> SimpleNamespace:
        """Return a pattern that counts."""

        def counted(
            method: Callable[[bytes, int], "re.Match[bytes] | None"], text: bytes, pos: int
        ) -> object:
            found = method(text, pos)
            self.bytes += (found.end() if found else len(text)) - pos
            return found

        return SimpleNamespace(
            search=partial(counted, pattern.search), match=partial(counted, pattern.match)
        )

    def chunk(self, data: bytes) -> bytes:
        """Return a chunk that counts, and still does when something is put in front of it."""
        tally = self

        class Chunk(bytes):
            def find(self, wanted: Any, start: Any = 0, stop: Any = None, /) -> int:
                at = super().find(wanted, start, stop)
                tally.bytes += (at if at >= 0 else len(self) if stop is None else stop) - start
                return at

            def __radd__(self, head: bytes) -> bytes:
                return Chunk(bytes.__add__(head, self))

        return Chunk(data)


@pytest.mark.parametrize("size", [1, 2, 7, 4096, 1 << 20])
@pytest.mark.parametrize("escape", [b"A", rb"\/", rb"\u002f"])
def test_nothing_is_searched_again(
    monkeypatch: pytest.MonkeyPatch, size: int, escape: bytes
) -> None:
    """The bytes searched are about three times those fed, in a long signature and a long image, for any chunking."""
    tally = Tally()
    for name, value in list(vars(image_extractor).items()):
        if isinstance(value, re.Pattern):
            monkeypatch.setattr(image_extractor, name, tally.pattern(value))
    long = (b"A" * 31 + escape) * 700
    body = OPEN + long + b'","thoughtSignature":"' + long + CLOSE
    _, found = sift(tally.chunk(piece) for piece in chunked(body, [size]))
    assert [len(image or b"") for image in found] == [700 * 24]
    assert len(body) < tally.bytes < 3 * len(body) + 1000


# --- what is an image, and what only looks like one -------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[{"content":{"parts":[{"inline_data":{"data":"QUJD"}},{"inlinedata":{"data":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"Data":"QUJD","mimeType":"data","data\\u0000":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"fileData":{"data":"QUJD"}},{"data":"QUJD"},{"inlineData":"QUJD"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":{"data":"QUJD"}}},{"inlineData":{"data":["QUJD"]}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":1}},{"inlineData":{"data":null,"x":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":[{"data":"QUJD"}]},[{"inlineData":{"data":"QUJD"}}]]}}]}',
        b'{"candidates":[{"content":{"parts":{"inlineData":{"data":"QUJD"}}}}]}',
        b'{"candidates":[{"content":[{"parts":[{"inlineData":{"data":"QUJD"}}]}]}]}',
        b'{"candidates":[[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]]}',
        b'{"candidates":{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}}',
        b'{"candidates":{"0":{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}}}',
        b'{"candidates":[["content",{"parts":[{"inlineData":{"data":"QUJD"}}]}]]}',
        b'{"candidates":[{"content":{"parts":{"0":{"inlineData":{"data":"QUJD"}}}}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":["data","QUJD"]}]}}]}',
        b'{"a":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}',
        b'{"candidates":[{"content":{"parts":[{"x":{"inlineData":{"data":"QUJD"}}}],"role":{"data":"QUJD"}}}],"data":"QUJD"}',
        b'{"candidates":[{"content":{"parts":[{"text":"{\\"inlineData\\":{\\"data\\":\\"QUJD\\"}}"},{"text":"inlineData"}]}}]}',
        b'[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}]',
        b'{"x":{"y":[["}",{"z":"]"}]],"a":"{"},"candidates":[{"x":["]"],"content":{"x":{"y":"}"},"parts":[]}}]}',
        b'{"x":{"a":{"y":"}"},"b":["]"]},"candidates":[{"x":[{"y":"}"},["]"]]}]}',
        b'{"promptFeedback":{"blockReason":"SAFETY"}}',
        b'{"candidates":[{"content":{"parts":null}},{"content":{}},{},null,[]],"x":[]}',
        b"{}",
        b"[]",
    ],
)
def test_decoys_stay_as_they_are(body: bytes) -> None:
    """What is not a string at exactly the path of an image is none; a top-level array passes untouched."""
    assert sift([body]) == (body, [])


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD","data":"REVG"}}]}}]}',
            [b"ABC", b"DEF"],
        ),
        (
            b'{"candidates":[1,{"content":{"parts":[[],{"inlineData":{"data":"QUJD"}}]},"content":{}}],"candidates":[]}',
            [b"ABC"],
        ),
        (
            b'{"a":{"b":1},"candidates":[{"c":[],"content":{"parts":[{"a":{"inlineData":0},"inlineData":{"data":""}}]}}]}',
            [b""],
        ),
        (
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":{"data":"-"},"data":"QQ=="}}]}}]}',
            [b"A"],
        ),
        (
            rb'{"\u0063andidate\u0073":[{"c\u006Fntent":{"parts":[{"inline\u0044ata":{"dat\u0061":"QUJD"}}]}}]}',
            [b"ABC"],
        ),
        (
            rb'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"\/\u002B8\u0041QQ\u003d\u003D"}}]}}]}',
            [b"\xff\xef\x00A"],
        ),
    ],
)
def test_images_are_found_by_their_path(body: bytes, images: list[bytes]) -> None:
    """Equal keys are all images, empty data is an empty image, and keys and data may be written with escapes."""
    skeleton, found = sift([body])
    assert found == images
    assert re.findall(rb'"#\d+"', skeleton) == [b'"#%d"' % index for index in range(len(images))]


@pytest.mark.parametrize("size", [1, 4, 5, 1000])
@pytest.mark.parametrize("data", [b"--__QQ==", b"++//QQ==", b"-+_/QQ=="])
def test_base64_may_be_of_the_url_safe_alphabet(data: bytes, size: int) -> None:
    """The alphabets share all letters but two, and mean the same by them."""
    _, found = sift(chunked(answer(data), [size]))
    assert found == [b"\xfb\xef\xffA"]


def test_space_and_byte_order_mark_around_the_answer_are_accepted() -> None:
    """A byte order mark and the whitespace behind the answer are left out of the skeleton; a misplaced mark is refused."""
    body = answer()
    skeleton = sift([body])[0]
    for chunks in (b"\xef\xbb\xbf" + body, b"\xef\xbb\xbf\r\n" + body + b"\r\n \t"):
        found, images = sift(chunked(chunks, [1]))
        assert (found.lstrip(), images) == (skeleton, [PIXEL])
        assert orjson.loads(found) == orjson.loads(skeleton)
    for mark in (b" \xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xbf", b"\xef\xbb"):
        assert read_sifted([mark + body]) is None


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"QUJ",
        b"QUJD=",
        b"QUI",
        b"A===",
        b"====",
        b"=",
        b"QQ==QUJD",
        b"QQ==QQ",
        b"QQ====",
        b"QU=D",
        b"QUJD\n",
        b" QUJD",
        b"QU\x00D",
        b"QU\xc3\xa9",
        b"#0",
        rb"QUJD\n",
        rb"QUJ\u00e9",
        rb"QUJ\ud83d",
        rb"QUJ\q",
        rb"QUJ\u00zz",
        rb"QUJD\/",
        rb"QQ=\u003d\u0041AAA",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 5, 1000])
def test_bad_base64_is_malformed(data: bytes, size: int) -> None:
    """Bad base64 and bad escapes are refused however the chunks fall, and the image is not closed."""
    sinks = Sinks()
    sieve = ImageExtractor(sinks.open)
    with pytest.raises(MalformedAnswerError) as caught:
        feed_all(sieve, chunked(answer(data), [size]))
    assert caught.value.kind is FailureKind.MALFORMED
    assert [sink.image for sink in sinks] == [None]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>busy</html>", "is a web page, not JSON"),
        (b" 12", "begins with b'1'"),
        (b'"text"', "neither a JSON object nor an array"),
        (b"null", "neither a JSON object nor an array"),
        (b'{"a":[1}', "'}' closes nothing"),
        (b'[{"a":1]', "']' closes nothing"),
        (rb'{"a":"\u12x4 is no escape"}', "is not an escape"),
        (b"", "breaks off after 0 bytes"),
        (b"  ", "breaks off after 2 bytes"),
    ],
)
def test_what_is_no_answer_is_malformed(body: bytes, why: str) -> None:
    """A body that can't be an answer is refused as soon as that is seen, in a sentence that says why."""
    with pytest.raises(MalformedAnswerError, match=re.escape(why)) as caught:
        sift([body])
    assert caught.value.kind is FailureKind.MALFORMED


BODY = answer()
TWO = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}},{"inlineData":{"data":"QUJD"}}]}}]}'


@pytest.mark.parametrize(
    ("body", "fits", "exceeded"),
    [
        (BODY, ExtractorLimits(body_bytes=len(BODY)), ExtractorLimits(body_bytes=len(BODY) - 1)),
        (
            BODY,
            ExtractorLimits(envelope_bytes=len(sift([BODY])[0])),
            ExtractorLimits(envelope_bytes=len(sift([BODY])[0]) - 1),
        ),
        (BODY, ExtractorLimits(depth=7), ExtractorLimits(depth=6)),
        (TWO, ExtractorLimits(images=2), ExtractorLimits(images=1)),
    ],
    ids=["body", "skeleton", "depth", "images"],
)
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_limits_hold_to_the_byte(
    body: bytes, fits: ExtractorLimits, exceeded: ExtractorLimits, size: int
) -> None:
    """An answer that just fits is taken, and one more byte, level or image is too large."""
    assert sift(chunked(body, [size]), fits) == sift([body])
    with pytest.raises(MalformedAnswerError, match="more than") as caught:
        sift(chunked(body, [size]), exceeded)
    assert caught.value.kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize("endless", [b"[", b'{"a":', b"[1,", b' "a', b"      ", b"\\u0041"])
def test_a_body_without_end_is_cut_off(endless: bytes) -> None:
    """Nesting, text or space without end is refused at a limit, and by then no more than the limit is kept."""
    sieve = ImageExtractor(Sinks().open, ExtractorLimits(envelope_bytes=50_000, body_bytes=10**6))
    sieve.feed(b'["' if endless.startswith(b"\\") else b"[")
    with pytest.raises(MalformedAnswerError, match="more than") as caught:
        feed_all(sieve, repeat(endless * 100))
    assert caught.value.kind is FailureKind.TOO_LARGE
    assert len(sieve._envelope) <= 50_000


# --- errors ----------------------------------------------------------------------------------------------------------


class FullDisk(Null):
    """A sink without space, at the call that it is told."""

    def __init__(self, call: str) -> None:
        if call == "open":
            raise OSError(28, "no space")
        self.call = call

    def write(self, data: bytes, /) -> None:
        """Fail, if it is this call's turn."""
        if self.call == "write":
            raise OSError(28, "no space")

    def close(self) -> None:
        """Fail, if it is this call's turn."""
        if self.call == "close":
            raise OSError(28, "no space")


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_a_sink_that_fails_breaks_the_sieve(call: str) -> None:
    """The disk's error reaches the caller as it is, and from then on there is no answer any more."""
    sieve = ImageExtractor(lambda _: FullDisk(call))
    with pytest.raises(OSError, match="no space"):
        sieve.feed(answer())
    with pytest.raises(MalformedAnswerError, match="abandoned"):
        sieve.feed(answer())
    with pytest.raises(MalformedAnswerError, match="breaks off"):
        sieve.finish()


@pytest.mark.parametrize("junk", [b"x", b"}", b" {}", b"\x00", b"<!-- 12 ms -->", answer()])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_junk_behind_a_whole_answer_changes_nothing(junk: bytes, size: int) -> None:
    """An answer that has closed was paid for: what follows is no part of it, whether or not it comes in the same chunk."""
    assert sift(chunked(answer() + junk, [size])) == sift([answer()])
