"""Separates the images of an answer from its JSON while both arrive.

An answer is 1 to 30 MB of JSON, nearly all base64. `ImageExtractor` is a push parser: it is fed the
chunks of the socket, writes the decoded bytes of each image to a sink, and leaves the *envelope*,
small JSON for a real parser.

It follows strings and brackets, and no more of JSON than that. This is safe because it only ever
replaces one valid string by another: the envelope is valid JSON exactly when the answer was, and
the envelope's parser decides that.
"""

from collections.abc import Callable, Iterator

from gemini_batch.client import data_uris
from gemini_batch.client.answer_paths import ANSWER, Leaf, Paths, Place
from gemini_batch.client.envelope import Envelope
from gemini_batch.client.json_strings import MAX_ESCAPE_BYTES, text_stop, unescaped
from gemini_batch.client.malformed import (
    ExtractorLimits,
    MalformedAnswerError,
    check_limit,
    not_json,
)
from gemini_batch.client.transport import ImageSink
from gemini_batch.records import FailureKind

_LIMITS = ExtractorLimits()
_CLOSER_OF = {b"{": b"}", b"[": b"]"}
# White space, the UTF-8 byte order mark, and `)]}'`, which guards JSON of Google's web pages.
_IN_FRONT = b" \t\n\r\xef\xbb\xbf)]}',"


class ImageExtractor:
    r"""A push parser that extracts the images of one answer, or of one line of a batch's results.

    The strings of `paths` that are images are decoded into a sink, and replaced by the
    string `"#0"`, `"#1"` … in the order of arrival; so is the base64 of a data URI in a text:
    `data:image/png;base64,#2`. With duplicate keys the last one wins in the envelope's parser; an
    image whose number is not found there was overruled. Keys and data may contain JSON escapes
    (`\u0064ata`, `\/`, `\u003d`). Other strings of more than 16 KiB are left out (see `Envelope`).
    Everything else is unchanged.

    The answer must be one JSON object or array, or objects one after another; of several, the
    envelope is an array. A byte order mark in front is dropped, as RFC 8259 §8.1 allows (orjson
    does not), and so is anything after the last one. Work is linear in the bytes fed, for any
    chunking; memory is one chunk and the envelope. After an exception the extractor accepts no
    more chunks and has no envelope.

    `open_image` is called with 0, 1, … when an image begins, and `open_aside` when the first string
    is left out; `feed` passes on their errors.
    """

    def __init__(
        self,
        open_image: Callable[[int], ImageSink],
        limits: ExtractorLimits = _LIMITS,
        open_aside: Callable[[], ImageSink] | None = None,
        paths: Paths = ANSWER,
    ) -> None:
        self._max_bytes, self._max_front_bytes = limits.body_bytes, limits.envelope_bytes
        # A state consumes what it can of a chunk, returns where it stopped, and may set another.
        self._state: Callable[[ImageExtractor, bytes, int], int] = ImageExtractor._before
        self._envelope = Envelope(open_image, open_aside, limits.envelope_bytes, limits.images)
        self._fed_bytes = 0
        self._held = b""  # what can't be understood before the next chunk: half an escape
        self._place = Place(paths, limits.depth)
        self._is_key = False  # the current string is a key that may be on a path
        self._data = data_uris.data_pattern(b"")  # of the current data URI
        self._broken_in: Callable[[ImageExtractor, bytes, int], int] = self._state

    @property
    def is_whole(self) -> bool:
        """True once the answer has ended; what follows is not part of it."""
        return self._state is ImageExtractor._after

    @property
    def has_begun(self) -> bool:
        """True once there was more than white space."""
        return self._state is not ImageExtractor._before

    @property
    def is_closed(self) -> bool:
        """True if the answer may end here: all JSON that has begun is closed."""
        return self._envelope.has_documents and not self._place.closers

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the body, with at most one write per image.

        Raises:
            MalformedAnswerError: The answer is malformed or past a limit.
            OSError: A sink failed.
        """
        pos = 0
        self._fed_bytes += len(chunk)
        if self._held:
            chunk, self._held = self._held + chunk, b""
        try:
            check_limit(self._fed_bytes, self._max_bytes, "bytes")
            while pos < len(chunk):
                pos = self._state(self, chunk, pos)
        except BaseException:
            self._broken_in, self._state = self._state, ImageExtractor._broken
            self._held = chunk[pos:]
            raise

    def finish(self) -> bytes:
        """Return the envelope, once the body has ended.

        Raises:
            MalformedAnswerError: The body ended before its JSON, or `feed` has raised.
        """
        if not self.is_closed:
            if self._state is ImageExtractor._before:
                raise MalformedAnswerError("the answer is empty", FailureKind.NOT_AN_ANSWER)
            raise MalformedAnswerError(
                f"the answer breaks off after {self._fed_bytes:,} bytes, before its JSON closes"
            )
        return self._envelope.documents()

    @property
    def whole_images(self) -> int:
        """Number of images that have ended."""
        return self._envelope.whole_images

    def cut_off(self, *, is_end: bool = True) -> bytes | None:
        """Return the envelope as far as it came, if an image is whole and nothing closes it.

        It is no JSON. With `is_end` nothing more comes, and an image whose string did not end is
        whole if its format shows it; else more may be fed.
        """
        end, state = b"", self._state
        if state is ImageExtractor._broken:
            state = self._broken_in
            if state in {ImageExtractor._in_image, ImageExtractor._at_image_end}:
                return None  # the image that is damaged may be the picture
        if state is ImageExtractor._in_image and is_end and self._envelope.image.end_of_format():
            end = b'"'
        elif state is ImageExtractor._in_data_uri and is_end:
            end = b'"' if self._envelope.image.end_of_format() else b'!"'
        elif state is ImageExtractor._in_text:
            end = b'"'
        return self._envelope.as_far_as_it_came(end) if self.whole_images else None

    def set_aside(self, rest: bytes) -> bool:
        """Keep bytes that can't be parsed, after `feed` has raised; return if there is room."""
        held, self._held = self._held, b""
        return self._envelope.set_aside(held + rest)

    def body(self) -> Iterator[bytes]:
        """Yield what was fed again, with base64 in the standard alphabet."""
        yield from self._envelope.body()
        yield self._held

    def _before(self, chunk: bytes, pos: int) -> int:
        """Skip what may be in front of the first bracket."""
        rest = chunk[pos:].lstrip(_IN_FRONT)
        if not rest:
            check_limit(self._fed_bytes, self._max_front_bytes, "bytes outside its images")
        else:
            if rest[:1] not in _CLOSER_OF:
                raise not_json(rest)
            self._state = ImageExtractor._in_structure
        return len(chunk) - len(rest)

    def _in_structure(self, chunk: bytes, pos: int) -> int:
        """Read brackets, commas, colons, and what is between them except strings."""
        start, place = pos, self._place
        while found := place.mark.match(chunk, pos):
            pos = found.end()
            comma, string, colon, opener, closers, mark = found.groups()
            if string is not None:
                if comma is not None or place.at_key:
                    place.match_key(string)
                    place.at_key = colon is None
                elif place.leaf is not None and (
                    place.leaf is Leaf.IMAGE or b"data:" in string.lower()
                ):
                    self._begin_string(chunk[start : found.start(2) - 1])
                    return found.start(2)
                if opener is not None:
                    place.open(_CLOSER_OF[opener])
            elif closers is not None:
                pos = found.start(5) + place.close(closers)
                if not place.closers:
                    self._envelope.structure(chunk[start:pos])
                    # An array, or an object with a result, is the last.
                    is_last = self._envelope.end_document() or chunk[pos - 1 : pos] == b"]"
                    self._state = ImageExtractor._after if is_last else ImageExtractor._between
                    return pos
            elif mark == b'"':
                self._begin_string(chunk[start : pos - 1])
                return pos
            elif mark in _CLOSER_OF:
                place.open(_CLOSER_OF[mark])
            else:
                place.at_key = mark == b","
        self._envelope.structure(chunk[start:])
        return len(chunk)

    def _in_string(self, chunk: bytes, pos: int) -> int:
        """Read a key or a value that stays in the envelope, unless it is long."""
        stop, _ = text_stop(chunk, pos)
        closes = self._closes(chunk, stop)
        self._envelope.string(chunk[pos:stop])
        if not closes:
            return len(chunk)
        string = self._envelope.end_string()
        if self._is_key:
            self._place.match_key(string)
        self._state = ImageExtractor._in_structure
        return stop + 1

    def _in_image(self, chunk: bytes, pos: int) -> int:
        """Read a string of base64."""
        stop, has_escapes = text_stop(chunk, pos)
        try:
            text = unescaped(chunk[pos:stop]) if has_escapes else memoryview(chunk)[pos:stop]
        except ValueError as error:
            raise MalformedAnswerError(
                "an image of the answer is not valid base64: it has other characters"
            ) from error
        closes = self._closes(chunk, stop)
        self._envelope.image.decode(text)
        if not closes:
            return len(chunk)
        self._state = ImageExtractor._at_image_end
        return stop

    def _at_image_end(self, _chunk: bytes, pos: int) -> int:
        """Read the quote after base64."""
        self._envelope.image.end()
        self._envelope.keep(b'"')
        self._state = ImageExtractor._in_structure
        return pos + 1

    def _in_text(self, chunk: bytes, pos: int) -> int:
        """Read a text that may contain data URIs."""
        stop, _ = text_stop(chunk, pos)
        if uri := data_uris.START.search(chunk, pos, stop):
            before = chunk[pos : uri.start()]
            quote = self._envelope.tail(data_uris.MAX_QUOTE_BYTES) + before
            self._data = data_uris.data_pattern(quote)
            self._envelope.text(before)
            self._envelope.data_uri(uri[0])
            self._state = ImageExtractor._in_data_uri
            return uri.end()
        if self._closes(chunk, stop):
            self._envelope.text(chunk[pos:stop])
            self._envelope.keep(b'"')
            self._state = ImageExtractor._in_structure
            return stop + 1
        near = max(pos, stop - data_uris.MAX_START_BYTES)
        if partial := data_uris.PARTIAL_START.search(chunk, near, stop):
            stop = partial.start()
            self._held = chunk[stop:]
        self._envelope.text(chunk[pos:stop])
        return len(chunk)

    def _in_data_uri(self, chunk: bytes, pos: int) -> int:
        """Read the base64 of a data URI; how it ends shows in the text after it."""
        found = self._data.match(chunk, pos)
        stop = found.end() if found else pos
        if stop > pos:
            self._envelope.data_in_text(data_uris.plain(chunk[pos:stop]))
        rest = chunk[stop : stop + MAX_ESCAPE_BYTES]
        if not rest or data_uris.CUT_ESCAPE.fullmatch(rest):
            self._held = rest
            return len(chunk)
        self._envelope.end_data_uri()
        self._state = ImageExtractor._in_text
        return stop

    def _between(self, chunk: bytes, pos: int) -> int:
        """Look for another object after one that was not the last."""
        rest = chunk[pos:].lstrip(_IN_FRONT)
        if rest:
            is_object = rest.startswith(b"{")
            self._state = ImageExtractor._in_structure if is_object else ImageExtractor._after
        return len(chunk) - len(rest)

    def _after(self, chunk: bytes, pos: int) -> int:
        """Drop everything after the answer."""
        return len(chunk)

    def _broken(self, chunk: bytes, pos: int) -> int:
        """Refuse a chunk after an exception."""
        raise MalformedAnswerError("the answer was abandoned before this chunk")

    def _begin_string(self, before: bytes) -> None:
        """Set the state for the string that begins here, after the structure `before`."""
        self._envelope.structure(before)
        match self._place.leaf:
            case Leaf.IMAGE:
                self._envelope.open_image(b'"')
                self._state = ImageExtractor._in_image
            case Leaf.TEXT:
                self._envelope.keep(b'"')
                self._state = ImageExtractor._in_text
            case None:
                self._envelope.begin_string()
                self._is_key = self._place.is_at_key
                self._state = ImageExtractor._in_string

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
