"""The image extractor against the plain way, on random answers."""

import base64
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client.answer_paths import LINE
from gemini_batch.client.malformed import MalformedAnswerError
from tests.unit.client.extracting import answer, b64, chunked, extract

PATH = ("candidates", "*", "content", "parts", "*", "inlineData", "data")
PATHS = {
    root + PATH[:-2] + (name, "data")
    for root in ((), ("*",))
    for name in ("inlineData", "inline_data")
}


@dataclass
class Object:
    """A JSON object that may have a key twice."""

    pairs: list[tuple[str, "Json"]]


Json: TypeAlias = "Object | list[Json] | str | int | float | bool | None"


@dataclass
class Written:
    """An answer as text, and the expected envelope and images."""

    body: bytearray = field(default_factory=bytearray)
    envelope: bytearray = field(default_factory=bytearray)
    data: list[str] = field(default_factory=list)

    def put(self, piece: bytes) -> None:
        """Write a piece of both the body and the envelope."""
        self.body += piece
        self.envelope += piece


GAPS = (b"", b"", b"", b"", b" ", b" ", b"\n  ", b"\t\r\n")


def write_string(text: str, chance: float, rng: random.Random) -> bytes:
    """Return a JSON string with some needless escapes."""
    if not chance:
        return orjson.dumps(text)
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
    """Write JSON with random whitespace and escapes; the path decides which strings are images."""
    chance = rng.choice([0, 0, 0.1, 1])

    def gap() -> None:
        out.put(GAPS[rng.getrandbits(3)])

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
    elif isinstance(node, str) and path in PATHS:
        out.body += write_string(node, chance, rng)
        out.envelope += b'"#%d"' % len(out.data)
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
    """Makes choices from bytes: one draw per example, as hundreds would be slow."""

    def __init__(self, entropy: bytes) -> None:
        self.entropy = iter(entropy)

    def roll(self, sides: int) -> int:
        """Return a number below `sides`; 0 when no bytes are left."""
        return next(self.entropy, 0) % sides

    def any_json(self, depth: int) -> Json:
        """Return any JSON, with keys of the path in wrong places too."""
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
        """Return JSON that mostly follows the path, with other members around it in any order."""
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


answers = st.binary(min_size=50, max_size=800).map(lambda entropy: Dice(entropy).down())
seeds = st.integers(0, 2**32)
chunk_sizes = st.lists(st.integers(1, 9) | st.integers(1, 200), min_size=1, max_size=5)


def written(node: Json, seed: int) -> Written:
    """Write an answer in one of many ways."""
    out = Written()
    write(node, random.Random(seed), out)
    return out


URL_SAFE = str.maketrans("-_", "+/")


def decoded(data: str) -> bytes | None:
    """Decode base64 of either alphabet with the standard library; None if it is invalid."""
    text = "".join(data.translate(URL_SAFE).split())
    text = text.rstrip("=") if len(text) % 4 else text
    padded = text + "=" * (-len(text) % 4)
    try:
        image = base64.b64decode(padded, validate=True)
    except ValueError:
        return None
    return image if padded == text or base64.b64encode(image).decode() == padded else None


@given(answers, seeds, chunk_sizes)
def test_any_chunking_gives_what_base64_gives_on_the_whole(
    node: Json, seed: int, sizes: list[int]
) -> None:
    """The images are those of the path, the envelope is the rest, and bad base64 is an error."""
    want = written(node, seed)
    wanted = [decoded(data) for data in want.data]
    if None in wanted:
        with pytest.raises(MalformedAnswerError, match="base64"):
            extract(chunked(bytes(want.body), sizes))
        return
    envelope, found = extract(chunked(bytes(want.body), sizes))
    assert (bytes(want.envelope).strip(), wanted) == (envelope, found)
    assert orjson.loads(want.envelope) == orjson.loads(envelope)


@given(answers.filter(lambda node: isinstance(node, Object)), seeds, chunk_sizes)
def test_a_line_of_a_batch_has_the_images_of_its_response(
    node: Json, seed: int, sizes: list[int]
) -> None:
    """With the paths of a line, what is below `response` is extracted as an answer is."""
    want = written(node, seed)
    start, end = b'{"a":{"data":"QUJD"},"response":', b',"key":"k","candidates":[]}'
    body, envelope = (start + each + end for each in (want.body, want.envelope))
    wanted = [decoded(data) for data in want.data]
    if None in wanted:
        with pytest.raises(MalformedAnswerError, match="base64"):
            extract(chunked(body, sizes), paths=LINE)
        return
    assert extract(chunked(body, sizes), paths=LINE) == (envelope, wanted)


def with_images(node: Any, image_of: Callable[[str], bytes], path: tuple[str, ...] = ()) -> Any:
    """Return a parsed answer with its images."""
    if isinstance(node, str):
        return image_of(node) if path in PATHS else node
    if isinstance(node, list):
        return [with_images(item, image_of, (*path, "*")) for item in node]
    if isinstance(node, dict):
        return {key: with_images(item, image_of, (*path, key)) for key, item in node.items()}
    return node


def plain_image(data: str) -> bytes:
    """Decode an image; raise ValueError if it is invalid."""
    image = decoded(data)
    if image is None:
        raise ValueError(data)
    return image


IN_FRONT = b" \t\n\r\xef\xbb\xbf)]}',"
LAST = re.compile(rb'"(finish_?[rR]eason|block_?[rR]eason|error)"')


def read_whole(body: bytes) -> list[Any] | None:
    """Parse the objects of an answer, or its array, without the extractor; None if invalid."""
    found: list[Any] = []
    while (body := body.lstrip(IN_FRONT)) and (body.startswith(b"{") or not found):
        for closer in re.finditer(rb"[}\]]", body):
            try:
                document = orjson.loads(body[: closer.end()])
                found.append(with_images(document, plain_image))
            except ValueError:
                continue
            break
        else:
            return None
        if isinstance(document, list) or LAST.search(body[: closer.end()]):
            break
        body = body[closer.end() :]
    return found or None


def read_extracted(chunks: Iterable[bytes]) -> list[Any] | None:
    """Parse an answer with the extractor and the envelope's parser; None if one refuses."""
    try:
        envelope, found = extract(chunks)
    except MalformedAnswerError:
        return None

    def image_of(placeholder: str) -> bytes:
        assert re.fullmatch(r"#\d+", placeholder)
        image = found[int(placeholder[1:])]
        assert image is not None
        return image

    try:
        doc = orjson.loads(envelope)
    except orjson.JSONDecodeError:
        return None
    # Of one array, or of several objects, the envelope is an array.
    return [with_images(doc, image_of)]


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
def test_damaged_bytes_are_refused_or_parsed_as_without_the_extractor(
    node: Json, seed: int, sizes: list[int]
) -> None:
    """Only what orjson and base64 accept is accepted; else MalformedAnswerError is raised."""
    body = written(node, seed).body
    damage(body, random.Random(seed))
    found = read_extracted(chunked(bytes(body), sizes))
    assert found is None or found == read_whole(bytes(body))


@given(
    st.binary(max_size=60) | st.text('{}[]":,\\ue+=A0 ', max_size=60).map(str.encode), chunk_sizes
)
@example(b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"-_8="}}]}}]}', [200])
def test_garbage_is_refused(garbage: bytes, sizes: list[int]) -> None:
    """Other bytes are accepted only if they are JSON; else MalformedAnswerError is raised."""
    found = read_extracted(chunked(garbage, sizes))
    assert found is None or found == read_whole(garbage)
