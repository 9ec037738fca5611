"""The dresses of an answer: what is known of its images, and everything that gateways make of it."""

import base64
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]


def png(seed: int) -> bytes:
    """Return a small PNG of its own."""
    rng = random.Random(seed)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    width, height = rng.randint(1, 9), rng.randint(1, 9)
    lines = b"".join(b"\0" + rng.randbytes(3 * width) for _ in range(height))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


def _b64(image: bytes) -> str:
    return base64.b64encode(image).decode()


def _lines(text: str, size: int, end: str) -> str:
    return end.join(text[start : start + size] for start in range(0, len(text), size)) + end


def _inline(data: str) -> Document:
    return {"inlineData": {"mimeType": "image/png", "data": data}}


def _snake(image: bytes) -> Document:
    return {"inline_data": {"mime_type": "image/png", "data": _b64(image)}}


DRESSES: dict[str, Callable[[bytes], Document]] = {
    "plain": lambda image: _inline(_b64(image)),
    "snake case": _snake,
    "URL-safe": lambda image: _inline(base64.urlsafe_b64encode(image).decode()),
    "without padding": lambda image: _inline(_b64(image).rstrip("=")),
    "lines of 76": lambda image: _inline(_lines(_b64(image), 76, "\r\n")),
    "lines of 5": lambda image: _inline(_lines(_b64(image).rstrip("="), 5, "\n")),
    "spaces": lambda image: _inline(" " + _lines(_b64(image), 1, " ")),
    "a data URI": lambda image: _inline("data:image/png;base64," + _b64(image)),
    "a data URI in lines": lambda image: _inline(
        "data:image/png;base64,\n" + _lines(_b64(image), 64, "\n")
    ),
    "base64 of base64": lambda image: _inline(_b64(_b64(image).encode())),
    "base64 of base64 in lines": lambda image: _inline(
        _b64(_lines(_b64(image), 76, "\n").encode()).rstrip("=")
    ),
    "base64 of a data URI": lambda image: _inline(
        _b64(f"data:image/png;base64,{_b64(image)}".encode())
    ),
    "a signature": lambda image: _inline(_b64(image)) | {"thoughtSignature": "c2ln" * 4200},
    "Markdown": lambda image: {
        "text": f"Here it is:\n![a robot](data:image/png;base64,{_b64(image)})\nEnjoy!"
    },
    "Markdown in lines": lambda image: {
        "text": f"![](data:image/png;base64,{_lines(_b64(image), 76, chr(10))})"
    },
    "HTML": lambda image: {"text": f'<img alt="x" src="data:image/png;base64,{_b64(image)}">'},
    "a bare URI": lambda image: {"text": f"data:image/png;base64,{_b64(image)}"},
    "a bare URI without padding": lambda image: {
        "text": f"data:image/png;base64,{_b64(image).rstrip('=')} done"
    },
    "a file": lambda image: {"fileData": {"fileUri": f"data:image/png;base64,{_b64(image)}"}},
}


def events(documents: list[Document], end: bytes = b"\n\n") -> bytes:
    """Return a stream with an event of each."""
    return b"".join(b"data: " + json.dumps(each).encode() + end for each in documents)


def _pretty_events(documents: list[Document]) -> bytes:
    lines = (json.dumps(each, indent=2).replace("\n", "\r\ndata: ") for each in documents)
    return "".join(f"id: 7\r\nevent: message\r\ndata: {each}\r\n\r\n" for each in lines).encode()


def _joined(documents: list[Document]) -> Document:
    parts = [part for each in documents for part in each["candidates"][0]["content"]["parts"]]
    whole: Document = {"candidates": [{"content": {"role": "model", "parts": parts}}]}
    whole["candidates"][0]["finishReason"] = "STOP"
    return whole | {"usageMetadata": {"promptTokenCount": 5}}


def _one(documents: list[Document]) -> bytes:
    return json.dumps(_joined(documents)).encode()


def _zlib(body: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


BODIES: dict[str, Callable[[list[Document]], bytes]] = {
    "one object": _one,
    "pretty": lambda documents: json.dumps(_joined(documents), indent=4).encode(),
    "all escaped": lambda documents: (
        _one(documents).replace(b"/", rb"\/").replace(b"=", rb"\u003d")
    ),
    "an array": lambda documents: json.dumps(documents).encode(),
    "an array of one": lambda documents: b"[" + _one(documents) + b"]",
    "events": lambda documents: events(documents) + b"data: [DONE]\n\n",
    "events of CRLF": lambda documents: b": hi\r\n\r\n" + events(documents, b"\r\n\r\n"),
    "pretty events": _pretty_events,
    "one event": lambda documents: b"data:" + _one(documents),
    "lines": lambda documents: b"\n".join(json.dumps(each).encode() for each in documents),
    "keep-alive bytes in front": lambda documents: b"\n \r\n" * 9 + _one(documents),
    "a byte order mark": lambda documents: b"\xef\xbb\xbf" + _one(documents),
    "keep-alive bytes and a byte order mark": lambda documents: (
        b"\n\n\xef\xbb\xbf\n" + _one(documents)
    ),
    "UTF-16": lambda documents: _one(documents).decode().encode("utf-16"),
    "UTF-16, big end first": lambda documents: (
        b"\xfe\xff" + _one(documents).decode().encode("utf-16-be")
    ),
    "UTF-16 without a mark": lambda documents: _one(documents).decode().encode("utf-16-le"),
    "UTF-32": lambda documents: _one(documents).decode().encode("utf-32"),
    "a guard": lambda documents: b")]}'\n" + _one(documents),
    "gzip": lambda documents: gzip.compress(_one(documents)),
    "gzip behind keep-alive bytes": lambda documents: b"\n\n" + gzip.compress(_one(documents)),
    "zlib": lambda documents: zlib.compress(_one(documents)),
    "zlib at its fastest": lambda documents: zlib.compress(_one(documents), 1),
    "gzip twice": lambda documents: gzip.compress(gzip.compress(_one(documents))),
    "gzip of events": lambda documents: gzip.compress(events(documents)),
    "gzip of UTF-16": lambda documents: _zlib(_one(documents).decode().encode("utf-16"), 31),
    "gzip of an array": lambda documents: gzip.compress(json.dumps(documents).encode()),
    "junk behind it": lambda documents: _one(documents) + b"\r\n<!-- 12 ms -->{",
}


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[bytes], list[Document]]:
    """Return images, the result last, and objects that hold them in this order."""
    images = [png(draw(st.integers(0, 2**32))) for _ in range(draw(st.integers(1, 4)))]
    names = st.sampled_from(sorted(DRESSES))
    wraps = [DRESSES[draw(names)] for _ in images]
    parts = [wrap(image) for wrap, image in zip(wraps, images, strict=True)]
    # An image in a text is the result only if there is no other.
    if "inline" not in json.dumps(parts[-1]) and "inline" in json.dumps(parts):
        parts[-1] = _inline(_b64(images[-1]))
    for part in parts[:-1]:
        if draw(st.booleans()):
            part["thought"] = True
    pieces: list[list[Document]] = [[]]
    for part in parts:
        if draw(st.booleans()):
            pieces[-1].append({"text": draw(st.text(max_size=9))})
        pieces[-1].append(part)
        if draw(st.booleans()):
            pieces.append([])
    documents: list[Document] = [
        {"candidates": [{"content": {"parts": piece}, "index": 0}]} for piece in pieces
    ]
    documents[-1]["candidates"][0]["finishReason"] = "STOP"
    documents[-1]["usageMetadata"] = {"promptTokenCount": 5}
    return images, documents


def dressed() -> st.SearchStrategy[Callable[[list[Document]], bytes]]:
    """Return a dress of a whole body."""
    return st.sampled_from([BODIES[name] for name in sorted(BODIES)])
