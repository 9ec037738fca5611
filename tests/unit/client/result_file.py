"""Result files of batches for tests, and sinks that keep their images."""

import base64
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gemini_batch.records import IncomingImage

PIXELS = b"\x89PNG\r\n\x1a\n picture of a robot"


class _Sink(io.BytesIO):
    def blocks(self, start: int = 0, size_bytes: int | None = None, /) -> Iterator[bytes]:
        yield self.getvalue()[start:][:size_bytes]

    def close(self) -> None:
        """Keep what was written."""


@dataclass
class Sink:
    """Keeps the images of one line."""

    images: list[_Sink] = field(default_factory=list)
    is_arrived: bool = False
    body: Iterable[bytes] = ()

    def open_image(self, index: int, /) -> _Sink:
        """Open the next one."""
        assert index == len(self.images)
        self.images.append(_Sink())
        return self.images[-1]

    def open_aside(self) -> _Sink:
        """Open one of its own."""
        return _Sink()

    def keepable(self, body: Iterable[bytes], /) -> None:
        """Take the body."""
        self.body = body

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        """Save nothing."""

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images, each with its bytes as its file."""
        self.is_arrived = True
        return tuple(
            IncomingImage(each.getvalue().decode("latin-1"), len(each.getvalue()), "", b"")
            for each in self.images
        )


def response(data: bytes = PIXELS, **part: Any) -> dict[str, Any]:
    """Return a response with one image."""
    blob = {"mimeType": "image/png", "data": base64.b64encode(data).decode()}
    content = {"parts": [part or {"inlineData": blob}]}
    return {"candidates": [{"content": content, "finishReason": "STOP"}]}


def line(key: str = "0.ab", **members: Any) -> bytes:
    """Return a line without its newline, with the key behind the rest."""
    return json.dumps({**(members or {"response": response()}), "key": key}).encode()
