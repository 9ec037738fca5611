"""Separates the images of an answer from its JSON while both are still arriving.

An answer is 1 to 30 MB of JSON, nearly all base64. `ImageExtractor` is a push parser: chunks go in as they come from the socket, the
decoded bytes of each image go straight to a sink, and what is left, the *skeleton*, is small JSON for a real parser.

The sieve follows strings and brackets, and no more of JSON than that. This is safe because it only ever puts one valid string
in the place of another: a skeleton is valid JSON exactly when the answer was, and it is the skeleton's parser that says so.
"""

import binascii
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import orjson
import pybase64

from gemini_batch.client.transport import ImageSink
from gemini_batch.records import FailureKind

# Where an image's base64 stands: the keys of the nested objects, None for any item of an array.
_PATH = (b"candidates", None, b"content", b"parts", None, b"inlineData", b"data")
_CLOSER_OF = {b"{": b"}", b"[": b"]"}
_WEB_PAGE = "the answer is a web page and no JSON: is a login or a proxy in the way, or is the address wrong?"
_WHITESPACE = b" \t\n\r"
_BOM = b"\xef\xbb\xbf"
# The next mark of structure, behind all that is none: a string that is plain and short, nearly all but the images, with the comma before and
# the colon after it; a member that is off the path by its key, with its plain string; else a single byte. `{}+` and `*+`: it never goes back.
# The run in front is part of the pattern: a search would try each of its bytes, and take three times as long.
_WS = rb"[ \t\n\r]*+"
_OTHER_KEY = rb'(?!(?:%b)")[^"\\]{0,64}+' % b"|".join(key for key in _PATH if key is not None)
_MARK = rb'[^"{}\[\],:]*+(?:(,)?%b"(?:%b"%b:%b"[^"\\]*+"|([^"\\]{0,64}+)"(?:%b(:))?)|(["{}\[\],:]))'
_ON_PATH = re.compile(_MARK % (_WS, _OTHER_KEY, _WS, _WS, _WS))
# Off the path, plain strings are jumped over.
_ASIDE = re.compile(rb'(?:[^"\\{}\[\]]++|"[^"\\]*+")*+' + _ON_PATH.pattern)
# Text up to its closing quote, an escape that is not whole, or the chunk's end. `++` and `*+`: it never goes back.
_TEXT = re.compile(rb'(?:[^"\\]++|\\(?:u[0-9a-fA-F]{4}|[^u]))*+')
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_ESCAPE_BYTES = 6  # the longest one, "\u003d"


class MalformedAnswerError(ValueError):
    """The answer can't be used: one sentence that says why. `kind` is `TOO_LARGE` past a limit, else `MALFORMED`."""

    def __init__(self, message: str, kind: FailureKind = FailureKind.MALFORMED) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class ExtractorLimits:
    """What one answer may use; a server that sends without end is cut off here."""

    skeleton_bytes: int = (
        8 * 2**20
    )  # all that is not image data; a `thoughtSignature` can be megabytes
    body_bytes: int = 256 * 2**20  # a 4K image is about 30 MB of base64
    images: int = 64  # there is one and a few drafts; each is a file on disk
    depth: int = 200  # nested objects and arrays: real answers have about ten, orjson refuses more than 1,024


class _Image:
    """One image on its way from base64 to its sink.

    Bytes in JSON may be base64 of the standard or of the URL-safe alphabet (https://protobuf.dev/programming-guides/json/, 2026-11-29).
    They may also lack their padding, but that is how an image looks that lacks more: Google's API always sends it, and without it the
    answer is refused.
    """

    def __init__(self, index: int, sink: ImageSink) -> None:
        self._index = index
        self._sink = sink
        self._carry = b""  # up to 3 characters of a group of four whose rest is in the next chunk
        self._is_padded = False

    def decode(self, text: bytes | memoryview) -> None:
        """Decode the next piece of base64 and write it in one go."""
        # One copy when groups straddle chunks; decoding their 3 bytes apart was measured slower, and costs a second write.
        view = memoryview(b"".join((self._carry, text)) if self._carry else text)
        whole = len(view) - len(view) % 4
        self._carry = bytes(view[whole:])
        if not whole:
            return
        if self._is_padded:  # the decoder sees one piece, and each may end in padding
            raise self._invalid("it goes on after its padding")
        self._is_padded = view[whole - 1] == ord("=")
        self._sink.write(self._decoded(view[:whole]))

    def end(self) -> None:
        """Close the sink: the string has ended."""
        if self._carry:
            raise self._invalid("its length is no multiple of four")
        self._sink.close()

    def _decoded(self, groups: memoryview) -> bytes:
        try:
            return pybase64.b64decode(groups, validate=True)
        except binascii.Error:
            pass  # the other alphabet, perhaps
        try:
            return pybase64.b64decode(bytes(groups).translate(_FROM_URL_SAFE), validate=True)
        except binascii.Error as error:
            raise self._invalid(str(error)) from error

    def _invalid(self, why: str) -> MalformedAnswerError:
        return MalformedAnswerError(f"image {self._index} of the answer is not valid base64: {why}")


class ImageExtractor:
    r"""A push parser that takes the images out of one answer.

    Of every string at `candidates[*].content.parts[*].inlineData.data` the base64 is decoded into a sink, and the string
    `"#0"`, `"#1"` … takes its place. The number is the image's in the order of arrival; with equal keys the last one wins in the
    skeleton's parser, so an image whose number is not found there was overruled. Keys and data may hold JSON escapes
    (`\u0064ata`, `\/`, `\u003d`). All else stays as it came, also what only looks like an image.

    The answer must be one JSON object or array. A UTF-8 byte order mark in front of it is dropped, as RFC 8259 §8.1 allows
    (orjson does not), and so is all that stands behind it. Work is linear in the bytes fed, for any chunking; memory is one chunk
    and the skeleton. After any exception the sieve is done for: it takes no more chunks and gives no skeleton.

    Args:
        open_image: Called with 0, 1, … when an image begins; its errors go to the caller of `feed`.
        limits: What the answer may use.
    """

    def __init__(
        self, open_image: Callable[[int], ImageSink], limits: ExtractorLimits = ExtractorLimits()
    ) -> None:
        self._open_image = open_image
        self._limits = limits
        # What the next byte belongs to; a state takes what it can of a chunk, returns where it stopped, and may set another.
        self._state: Callable[[ImageExtractor, bytes, int], int] = ImageExtractor._before
        self._skeleton = bytearray()
        self._images: list[_Image] = []
        self._fed_bytes = 0
        self._held = b""  # the start of an escape whose rest is in the next chunk
        self._closers = bytearray()  # of the open objects and arrays, outermost first
        self._on_path = 0  # how many of these, from the outermost, are those of _PATH
        self._at_key = False  # a string would be a key here, if this is an object
        self._key_start = 0  # where the key being read begins in the skeleton; 0 for other strings
        self._key_matches = False  # the last key of the innermost container on the path is the one that _PATH asks for

    @property
    def is_whole(self) -> bool:
        """Whether the JSON has closed; what follows is no part of the answer."""
        return self._state is ImageExtractor._after

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; each image that they touch gets at most one write.

        Raises:
            SieveError: The answer is malformed or past a limit.
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
        """Return the skeleton, once the body has ended.

        Raises:
            SieveError: The body ended before its JSON did, or `feed` has raised.
        """
        if not self.is_whole:
            raise MalformedAnswerError(
                f"the answer breaks off after {self._fed_bytes:,} bytes, before its JSON closes"
            )
        return bytes(self._skeleton.removeprefix(_BOM))

    def _before(self, chunk: bytes, pos: int) -> int:
        """Whitespace in front of the first bracket. A misplaced piece of a BOM is left to the skeleton's parser to refuse."""
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
        """Brackets, commas, colons, and the numbers, words and whitespace between them."""
        start = pos
        while found := (_ON_PATH if self._on_path == len(self._closers) else _ASIDE).match(
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
        """A key or a value that stays in the skeleton."""
        stop, _ = _text_stop(chunk, pos)
        closes = self._closes(chunk, stop)
        self._keep(chunk[pos : stop + closes])
        if not closes:
            return len(chunk)
        if self._key_start:
            self._key_matches = _key_is(
                _PATH[self._on_path - 1], bytes(self._skeleton[self._key_start : -1])
            )
        self._state = ImageExtractor._in_structure
        return stop + 1

    def _in_image(self, chunk: bytes, pos: int) -> int:
        """A string of base64."""
        stop, has_escapes = _text_stop(chunk, pos)
        image = self._images[-1]
        image.decode(_unescaped(chunk[pos:stop]) if has_escapes else memoryview(chunk)[pos:stop])
        if not self._closes(chunk, stop):
            return len(chunk)
        image.end()
        self._state = ImageExtractor._in_structure
        return stop + 1

    def _after(self, chunk: bytes, pos: int) -> int:
        """What stands behind the last bracket is dropped, in whichever chunk it comes: the answer is whole, and was paid for."""
        return len(chunk)

    def _broken(self, chunk: bytes, pos: int) -> int:
        """An exception left the sieve half way through a chunk."""
        raise MalformedAnswerError("the answer was given up before this chunk")

    def _begin_string(self, before: bytes) -> None:
        """Decide what the string is that begins here; `before` is the structure in front of it."""
        if self._is_at_image:
            index = len(self._images)
            _check(index + 1, self._limits.images, "images")
            self._keep(before + b'"#%d"' % index)
            self._images.append(_Image(index, self._open_image(index)))
            self._state = ImageExtractor._in_image
        else:
            self._keep(before + b'"')
            self._key_start = len(self._skeleton) if self._is_at_key else 0
            self._state = ImageExtractor._in_string

    @property
    def _is_at_image(self) -> bool:
        """Whether a string that begins here is one of base64."""
        return (
            self._key_matches
            and not self._at_key
            and self._on_path == len(_PATH) == len(self._closers)
        )

    @property
    def _is_at_key(self) -> bool:
        """Whether a string that begins here is a key that _PATH may ask for."""
        return (
            self._at_key
            and self._on_path == len(self._closers)
            and _PATH[self._on_path - 1] is not None
        )

    def _open(self, closer: bytes) -> None:
        depth = len(self._closers)
        _check(depth + 1, self._limits.depth, "objects and arrays inside each other")
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
        """Tell whether the string ends at `stop`; an escape that is not whole there is held back for the next chunk."""
        rest = chunk[stop : stop + _ESCAPE_BYTES]
        if rest.startswith(b"\\"):
            if len(rest) == _ESCAPE_BYTES:
                raise MalformedAnswerError(f"the answer is not valid JSON: {rest!r} is no escape")
            self._held = rest
        return rest.startswith(b'"')

    def _keep(self, piece: bytes) -> None:
        _check(
            len(self._skeleton) + len(piece), self._limits.skeleton_bytes, "bytes beside its images"
        )
        self._skeleton += piece


def _check(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise MalformedAnswerError(
            f"the answer has more than {limit:,} {what}", FailureKind.TOO_LARGE
        )


def _text_stop(chunk: bytes, pos: int) -> tuple[int, bool]:
    """Return where a string's text stops in this chunk (see `_TEXT`), and whether it holds escapes."""
    quote = chunk.find(b'"', pos)
    stop = len(chunk) if quote < 0 else quote
    # Two `find`s are a hundred times faster than the pattern, and nearly all text has no escapes.
    escape = chunk.find(b"\\", pos, stop)
    match = _TEXT.match(chunk, escape) if escape >= 0 else None
    return (match.end(), True) if match else (stop, False)


def _unescaped(text: bytes) -> bytes:
    try:
        string: str = orjson.loads(b'"%b"' % text)
        return string.encode("ascii")
    except ValueError as error:  # no JSON, or no ASCII
        raise MalformedAnswerError(
            "an image of the answer is not valid base64: it holds other characters"
        ) from error


def _key_is(wanted: bytes | None, raw: bytes) -> bool:
    if b"\\" in raw:
        with suppress(
            MalformedAnswerError
        ):  # another key, or no valid one: the skeleton's parser will see it
            raw = _unescaped(raw)
    return raw == wanted
