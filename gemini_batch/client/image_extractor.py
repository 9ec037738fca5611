"""Separates the images of an answer from its JSON while both arrive.

An answer is 1 to 30 MB of JSON, nearly all base64. `ImageExtractor` is a push parser: it is fed the
chunks of the socket, writes the decoded bytes of each image to a sink, and leaves the *envelope*,
small JSON for a real parser.

It follows strings and brackets, and no more of JSON than that. This is safe because it only ever
replaces one valid string by another: the envelope is valid JSON exactly when the answer was, and
the envelope's parser decides that.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from gemini_batch.client.base64_image import Base64Image, MalformedAnswerError
from gemini_batch.client.json_strings import MAX_ESCAPE_BYTES, text_stop, unescaped
from gemini_batch.client.transport import ImageSink
from gemini_batch.records import FailureKind

# Path of an image's base64: the keys of the nested objects, None for any item of an array.
_PATH = (b"candidates", None, b"content", b"parts", None, b"inlineData", b"data")
_CLOSER_OF = {b"{": b"}", b"[": b"]"}
_WEB_PAGE = (
    "the answer is a web page, not JSON: is a login or a proxy in the way, or is the address wrong?"
)
_WHITESPACE = b" \t\n\r"
_BOM = b"\xef\xbb\xbf"
# The next structural mark: a short string without escapes, as nearly all but the images are, with
# the comma before and the colon after it; or a member whose key is not on the path, with its plain
# string; or a single byte. `{}+` and `*+` never backtrack. The run in front is part of the pattern:
# a search would try each of its bytes, and take three times as long.
_WS = rb"[ \t\n\r]*+"
_OTHER_KEY = rb'(?!(?:%b)")[^"\\]{0,64}+' % b"|".join(key for key in _PATH if key is not None)
_MARK = rb'[^"{}\[\],:]*+(?:(,)?%b"(?:%b"%b:%b"[^"\\]*+"|([^"\\]{0,64}+)"(?:%b(:))?)|(["{}\[\],:]))'
_ON_PATH = re.compile(_MARK % (_WS, _OTHER_KEY, _WS, _WS, _WS))
# Off the path, plain strings are skipped.
_OFF_PATH = re.compile(rb'(?:[^"\\{}\[\]]++|"[^"\\]*+")*+' + _ON_PATH.pattern)


@dataclass(frozen=True, slots=True)
class ExtractorLimits:
    """Limits of one answer, for a server that sends without end.

    Attributes:
        envelope_bytes: Everything but image data; a `thoughtSignature` can be megabytes.
        body_bytes: Of a 4K image, about 30 MB is base64.
        images: There is one and a few drafts. Each is a file on disk.
        depth: Nested objects and arrays. Real answers have about ten; orjson refuses 1,024.
    """

    envelope_bytes: int = 8 * 2**20
    body_bytes: int = 256 * 2**20
    images: int = 64
    depth: int = 200


class ImageExtractor:
    r"""A push parser that extracts the images of one answer.

    Each string at `candidates[*].content.parts[*].inlineData.data` is decoded into a sink, and
    replaced by the string `"#0"`, `"#1"` … in the order of arrival. With duplicate keys the last
    one wins in the envelope's parser; an image whose number is not found there was overruled. Keys
    and data may contain JSON escapes (`\u0064ata`, `\/`, `\u003d`). Everything else is unchanged.

    The answer must be one JSON object or array. A UTF-8 byte order mark in front of it is dropped,
    as RFC 8259 §8.1 allows (orjson does not), and so is anything behind it. Work is linear in the
    bytes fed, for any chunking; memory is one chunk and the envelope. After an exception the
    extractor accepts no more chunks and has no envelope.

    `open_image` is called with 0, 1, … when an image begins; `feed` passes on its errors.
    """

    def __init__(
        self, open_image: Callable[[int], ImageSink], limits: ExtractorLimits = ExtractorLimits()
    ) -> None:
        self._open_image = open_image
        self._limits = limits
        # A state consumes what it can of a chunk, returns where it stopped, and may set another.
        self._state: Callable[[ImageExtractor, bytes, int], int] = ImageExtractor._before
        self._envelope = bytearray()
        self._images: list[Base64Image] = []
        self._fed_bytes = 0
        self._held = b""  # the start of an escape that continues in the next chunk
        self._closers = bytearray()  # of the open objects and arrays, outermost first
        self._on_path = 0  # the number of these, from the outermost, that match _PATH
        self._at_key = False  # in an object, the next string would be a key
        self._key_start = 0  # where the current key begins in the envelope; 0 for other strings
        self._key_matches = False  # the last key of the innermost object on the path is _PATH's

    @property
    def is_whole(self) -> bool:
        """True once the JSON has closed; what follows is not part of the answer."""
        return self._state is ImageExtractor._after

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body, with at most one write per image.

        Raises:
            MalformedAnswerError: The answer is malformed or past a limit.
            OSError: A sink failed.
        """
        try:
            self._fed_bytes += len(chunk)
            _check(self._fed_bytes, self._limits.body_bytes, "bytes")
            if self._held:
                chunk, self._held = self._held + chunk, b""
            pos = 0
            while pos < len(chunk):
                pos = self._state(self, chunk, pos)
        except BaseException:
            self._state = ImageExtractor._broken
            raise

    def finish(self) -> bytes:
        """Return the envelope, once the body has ended.

        Raises:
            MalformedAnswerError: The body ended before its JSON, or `feed` has raised.
        """
        if not self.is_whole:
            raise MalformedAnswerError(
                f"the answer breaks off after {self._fed_bytes:,} bytes, before its JSON closes"
            )
        return bytes(self._envelope.removeprefix(_BOM))

    def _before(self, chunk: bytes, pos: int) -> int:
        """Read whitespace before the first bracket; the envelope's parser refuses a stray BOM."""
        rest = chunk[pos:].lstrip(_WHITESPACE + _BOM)
        stop = len(chunk) - len(rest)
        self._keep(chunk[pos:stop])
        if rest:
            if rest[:1] not in _CLOSER_OF:
                if rest.startswith(b"<"):
                    raise MalformedAnswerError(_WEB_PAGE)
                raise MalformedAnswerError(
                    f"the answer is neither a JSON object nor an array: it begins with {rest[:1]!r}"
                )
            self._state = ImageExtractor._in_structure
        return stop

    def _in_structure(self, chunk: bytes, pos: int) -> int:
        """Read brackets, commas, colons, and what is between them except strings."""
        start = pos
        while found := (_ON_PATH if self._on_path == len(self._closers) else _OFF_PATH).match(
            chunk, pos
        ):
            pos = found.end()
            comma, string, colon, mark = found.groups()
            if string is not None:
                self._at_key = self._at_key or comma is not None
                if self._is_at_image:
                    self._begin_string(chunk[start : found.start(2) - 1])
                    return found.start(2)
                if self._is_at_key:
                    self._key_matches = string == _PATH[self._on_path - 1]
                self._at_key = self._at_key and colon is None
            elif mark == b'"':
                self._begin_string(chunk[start : pos - 1])
                return pos
            elif mark in _CLOSER_OF:
                self._open(_CLOSER_OF[mark])
            elif mark in {b"}", b"]"}:
                self._close(mark)
                if self.is_whole:
                    break
            elif mark is not None:  # else it is a member, which changes nothing
                self._at_key = mark == b","
        stop = pos if self.is_whole else len(chunk)
        self._keep(chunk[start:stop])
        return stop

    def _in_string(self, chunk: bytes, pos: int) -> int:
        """Read a key or a value that stays in the envelope."""
        stop, _ = text_stop(chunk, pos)
        closes = self._closes(chunk, stop)
        self._keep(chunk[pos : stop + closes])
        if not closes:
            return len(chunk)
        if self._key_start:
            key = bytes(self._envelope[self._key_start : -1])
            with suppress(ValueError):  # an invalid key is left to the envelope's parser
                key = unescaped(key)
            self._key_matches = key == _PATH[self._on_path - 1]
        self._state = ImageExtractor._in_structure
        return stop + 1

    def _in_image(self, chunk: bytes, pos: int) -> int:
        """Read a string of base64."""
        stop, has_escapes = text_stop(chunk, pos)
        image = self._images[-1]
        try:
            text = unescaped(chunk[pos:stop]) if has_escapes else memoryview(chunk)[pos:stop]
        except ValueError as error:
            raise MalformedAnswerError(
                "an image of the answer is not valid base64: it has other characters"
            ) from error
        image.decode(text)
        if not self._closes(chunk, stop):
            return len(chunk)
        image.end()
        self._state = ImageExtractor._in_structure
        return stop + 1

    def _after(self, chunk: bytes, pos: int) -> int:
        """Drop everything behind the last bracket."""
        return len(chunk)

    def _broken(self, chunk: bytes, pos: int) -> int:
        """Refuse a chunk after an exception."""
        raise MalformedAnswerError("the answer was abandoned before this chunk")

    def _begin_string(self, before: bytes) -> None:
        """Set the state for the string that begins here, after the structure `before`."""
        if self._is_at_image:
            index = len(self._images)
            _check(index + 1, self._limits.images, "images")
            self._keep(before + b'"#%d"' % index)
            self._images.append(Base64Image(index, self._open_image(index)))
            self._state = ImageExtractor._in_image
        else:
            self._keep(before + b'"')
            self._key_start = len(self._envelope) if self._is_at_key else 0
            self._state = ImageExtractor._in_string

    @property
    def _is_at_image(self) -> bool:
        """True if a string that begins here is base64."""
        return (
            self._key_matches
            and not self._at_key
            and self._on_path == len(_PATH) == len(self._closers)
        )

    @property
    def _is_at_key(self) -> bool:
        """True if a string that begins here may be a key of _PATH."""
        return (
            self._at_key
            and self._on_path == len(self._closers)
            and _PATH[self._on_path - 1] is not None
        )

    def _open(self, closer: bytes) -> None:
        depth = len(self._closers)
        _check(depth + 1, self._limits.depth, "nested objects and arrays")
        if self._on_path == depth < len(_PATH):  # the container around this one is on the path
            is_next = depth == 0 or _PATH[depth - 1] is None or self._key_matches
            self._on_path += is_next and closer == (b"]" if _PATH[depth] is None else b"}")
        self._closers += closer
        self._at_key = True

    def _close(self, closer: bytes) -> None:
        if not self._closers.endswith(closer):
            raise MalformedAnswerError(
                f"the answer is not valid JSON: a {closer.decode()!r} closes nothing"
            )
        self._closers.pop()
        self._on_path = min(self._on_path, len(self._closers))
        if not self._closers:
            self._state = ImageExtractor._after

    def _closes(self, chunk: bytes, stop: int) -> bool:
        """Return whether the string ends at `stop`; hold back an incomplete escape there."""
        rest = chunk[stop : stop + MAX_ESCAPE_BYTES]
        if rest.startswith(b"\\"):
            if len(rest) == MAX_ESCAPE_BYTES:
                raise MalformedAnswerError(
                    f"the answer is not valid JSON: {rest!r} is not an escape"
                )
            self._held = rest
        return rest.startswith(b'"')

    def _keep(self, piece: bytes) -> None:
        size = len(self._envelope) + len(piece)
        _check(size, self._limits.envelope_bytes, "bytes outside its images")
        self._envelope += piece


def _check(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise MalformedAnswerError(
            f"the answer has more than {limit:,} {what}", FailureKind.TOO_LARGE
        )
