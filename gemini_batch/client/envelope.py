"""The envelope of an answer: its JSON, with marks instead of what is too large for it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gemini_batch.client.base64_image import Base64Image
from gemini_batch.client.json_strings import whole_characters
from gemini_batch.client.malformed import MalformedAnswerError, check_limit
from gemini_batch.client.transport import ImageSink

# Nothing that is read is longer, except a text.
MAX_STRING_BYTES = 16_384
# Of all texts; more than is read: a character has up to 12 bytes, and mostly one.
MAX_TEXT_BYTES = 4 * 2**20
# Of strings that are left out, and of what can't be parsed.
MAX_ASIDE_BYTES = 64 * 2**20
LEFT_OUT = re.compile(rb'"#\d+ bytes"')
"""The mark of a string that was left out, and is not known to be of no use."""

_PLAIN_STRING = re.compile(rb'[^"]*+"([^"\\]*+)"')
# No one reads a part's signature; it may be as large as the image.
_SIGNATURE = re.compile(rb'"thought_?[sS]ignature"[ \t\n\r]*:[ \t\n\r]*\Z')
# A key of the last object of several, or of the only one, unless its value says nothing: gateways
# write out all fields of each object of a stream.
_LAST = re.compile(
    rb'"(?:finish_?[rR]eason|block_?[rR]eason|error)"[ \t\r\n]*+:[ \t\r\n]*+'
    rb'(?!null|false|0|""|"[A-Z_]*UNSPECIFIED"|\{[ \t\r\n]*\})'
)


@dataclass(slots=True)
class _Cut:
    """A mark, from `start` to `stop`, instead of an image, or of a piece of what is set aside."""

    start: int
    stop: int
    image: Base64Image | None = None
    aside_start: int = 0
    aside_bytes: int = 0


class Envelope:
    """Collects an envelope. Methods that end in an error have changed nothing."""

    def __init__(
        self,
        open_image: Callable[[int], ImageSink],
        open_aside: Callable[[], ImageSink] | None,
        max_bytes: int,
        max_images: int,
    ) -> None:
        self._open_image, self._max_images = open_image, max_images
        self._open_aside = open_aside
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._text_bytes = 0
        self._ends: list[int] = []  # of the documents
        self._cuts: list[_Cut] = []
        self._images: list[Base64Image] = []
        self._aside: ImageSink | None = None
        self._aside_bytes = 0
        self._string_start = 0  # of the current string, without its quote
        self._left_out: int | None = None  # bytes of the current string; None if it is kept
        self._is_signature = False  # the current string is left out, and of no use
        self._is_damaged = False  # the current image within a text can't be decoded

    @property
    def has_documents(self) -> bool:
        """True once an object or array has closed."""
        return bool(self._ends)

    def tail(self, size_bytes: int) -> bytes:
        """Return the last bytes."""
        return bytes(self._bytes[-size_bytes:])

    def documents(self) -> bytes:
        """Return the JSON; of several documents, an array."""
        starts = (0, *self._ends)
        pieces = [self._bytes[a:b] for a, b in zip(starts, self._ends, strict=False)]
        return bytes(pieces[0] if len(pieces) == 1 else b"[%b]" % b",".join(pieces))

    @property
    def whole_images(self) -> int:
        """Number of images that have ended."""
        return sum(image.is_whole for image in self._images)

    def as_far_as_it_came(self, end: bytes) -> bytes:
        """Return the documents, of which the last is not closed, and then `end`."""
        starts, stops = (0, *self._ends), (*self._ends, len(self._bytes))
        pieces = [self._bytes[a:b] for a, b in zip(starts, stops, strict=True)]
        pieces[-1] += end
        whole = [piece for piece in pieces if piece]
        return bytes(whole[0] if len(whole) == 1 else b"[" + b",".join(whole))

    def end_document(self) -> bool:
        """Note that an object or array has closed; return if it seems to be the last."""
        start = self._ends[-1] if self._ends else 0
        self._ends.append(len(self._bytes))
        return _LAST.search(self._bytes, start) is not None

    # --- structure and strings ---

    def keep(self, piece: bytes | memoryview) -> None:
        """Append bytes."""
        size = len(self._bytes) + len(piece)
        check_limit(size, self._max_bytes, "bytes outside its images")
        self._bytes += piece

    def structure(self, piece: bytes) -> None:
        """Append brackets and whole strings without escapes, but no string that is long."""
        if len(piece) <= MAX_STRING_BYTES:
            self.keep(piece)
            return
        pos = done = 0
        while found := _PLAIN_STRING.match(piece, pos):
            start, pos = found.span(1)
            pos += 1
            if found.end(1) - start > MAX_STRING_BYTES:
                self.keep(piece[done : start - 1])
                self.begin_string()
                self.string(piece[start : found.end(1)])
                self.end_string()
                done = pos
        self.keep(piece[done:])

    def begin_string(self) -> None:
        """Begin a string that may be long."""
        self.keep(b'"')
        self._string_start, self._left_out = len(self._bytes), None

    def string(self, piece: bytes) -> None:
        """Append to the string; if it becomes too long, leave it out."""
        if self._left_out is None:
            if len(self._bytes) - self._string_start + len(piece) <= MAX_STRING_BYTES:
                self.keep(piece)
                return
            piece = self._leave_out() + piece
        self._left_out = (self._left_out or 0) + len(piece)
        if not self._is_signature:
            self._put_aside(piece)

    def end_string(self) -> bytes:
        """End the string; return it, or b"" if it was left out."""
        string = bytes(self._bytes[self._string_start :])
        if self._left_out is not None and not self._is_signature:
            self.keep(b"#%d bytes" % self._left_out)
            self._cuts[-1].stop = len(self._bytes)
        self.keep(b'"')
        return string

    def _leave_out(self) -> bytes:
        """Take back what was kept of the string."""
        start = self._string_start
        self._is_signature = bool(_SIGNATURE.search(self._bytes[max(0, start - 200) : start - 1]))
        piece = bytes(self._bytes[start:])
        del self._bytes[start:]
        if not self._is_signature:
            self._cuts.append(_Cut(start, start, aside_start=self._aside_bytes))
        return piece

    def _put_aside(self, piece: bytes) -> None:
        """Append to the last cut."""
        piece = piece[: MAX_ASIDE_BYTES - self._aside_bytes]
        if piece and self._open_aside is not None:
            self._aside = self._aside or self._open_aside()
            self._aside.write(piece)
            self._aside_bytes += len(piece)
            self._cuts[-1].aside_bytes += len(piece)

    def set_aside(self, rest: bytes) -> bool:
        """Keep what can't be parsed after all that was; return whether there is room for more."""
        last = self._cuts[-1] if self._cuts else None
        if last is None or last.image is not None or last.start < len(self._bytes):
            size = len(self._bytes)
            self._cuts.append(_Cut(size, size, aside_start=self._aside_bytes))
        self._put_aside(rest)
        return self._aside_bytes < MAX_ASIDE_BYTES

    # --- texts ---

    def text(self, piece: bytes) -> None:
        """Append to a text, unless there is more text than is read."""
        piece = whole_characters(piece, MAX_TEXT_BYTES - self._text_bytes)
        self._text_bytes += len(piece)
        self.keep(piece)

    def data_uri(self, start: bytes) -> None:
        """Begin an image within a text."""
        self._is_damaged = False
        self.open_image(start)

    def data_in_text(self, data: bytes) -> None:
        """Decode the next piece of an image within a text, unless it is damaged."""
        if not self._is_damaged:
            with self._marking_damage():
                self.image.decode(data)

    def end_data_uri(self) -> None:
        """End an image within a text."""
        if not self._is_damaged:
            with self._marking_damage():
                self.image.end()

    @contextmanager
    def _marking_damage(self) -> Iterator[None]:
        """Put a mark that is none, so that the text keeps the answer from being refused."""
        try:
            yield
        except MalformedAnswerError:
            self._is_damaged = True
            self.keep(b"!")

    # --- images ---

    @property
    def image(self) -> Base64Image:
        """The last image."""
        return self._images[-1]

    def open_image(self, before: bytes) -> None:
        """Append what is in front of an image, and a mark in its place."""
        index = len(self._images)
        check_limit(index + 1, self._max_images, "images")
        self.keep(before + b"#%d" % index)
        self._images.append(Base64Image(index, self._open_image(index)))
        stop = len(self._bytes)
        self._cuts.append(_Cut(stop - len(b"%d" % index) - 1, stop, self.image))

    def body(self) -> Iterator[bytes]:
        """Yield the whole again, with base64 in the standard alphabet, without signatures."""
        pos = 0
        for cut in self._cuts:
            yield bytes(self._bytes[pos : cut.start])
            if cut.image is not None:
                yield from cut.image.text()
            elif self._aside is not None:
                yield from self._aside.blocks(cut.aside_start, cut.aside_bytes)
            pos = cut.stop
        yield bytes(self._bytes[pos:])
