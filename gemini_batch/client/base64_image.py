"""One image of an answer, decoded from base64 while it arrives."""

import binascii
from collections.abc import Iterator

import pybase64

from gemini_batch.client.image_ends import ends_whole
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.transport import ImageSink

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# PNG, JPEG, WebP and GIF in base64, and a data URI; no image begins so.
_TWICE = (b"iVBORw0KGgo", b"/9j/", b"UklGR", b"R0lGOD", b"data:image/")
_MIN_START_BYTES = 12
_WHITESPACE = b" \t\n\r\v\f"
_DATA_URI = b"data:"
# "data:image/svg+xml;charset=utf-8;base64," is among the longest.
_MAX_DATA_URI_BYTES = 200


class Base64Image:
    """Decodes the pieces of a base64 string into a sink.

    Bytes in JSON may use the standard or the URL-safe alphabet, and may lack their padding
    (https://protobuf.dev/programming-guides/json/, 2026-11-29). Gateways also break the lines, put
    the start of a data URI in front, or encode what is base64 already. A last character that was
    cut is found: it leaves bits that belong to no byte.

    Attributes:
        is_whole: Its string has ended, or its format shows that nothing is missing.
    """

    def __init__(self, index: int, sink: ImageSink) -> None:
        self._index = index
        self._sink = sink
        self._carry = b""  # up to 3 characters of a group of four that continues in the next piece
        self._is_padded = False
        self._is_standard = True  # no character so far but those of the standard alphabet
        self._has_begun = False  # it is known that it is not a data URI, or where its base64 begins
        self._start: bytes | None = (
            b""  # of what is decoded, until it is known whether it is base64
        )
        self._inner: Base64Image | None = None  # it is
        self.is_whole = False  # its string has ended

    def decode(self, text: bytes | memoryview) -> None:
        """Decode the next piece, and write it at once; after an error nothing has changed.

        Raises:
            MalformedAnswerError: It is not valid base64.
        """
        if not self._has_begun:
            text = self._without_uri(text)
            if not self._has_begun:
                return
        # A copy for groups that straddle pieces: decoding their 3 bytes apart was measured to be
        # slower, and costs a second write.
        joined = b"".join((self._carry, text)) if self._carry else text
        view = memoryview(joined if self._is_standard else _standard(joined))
        whole = len(view) - len(view) % 4
        if whole:
            try:
                decoded = pybase64.b64decode(view[:whole], validate=True)
            except binascii.Error as error:
                if not self._is_standard:
                    raise self._invalid(str(error)) from error
                self._is_standard = False
                self.decode(text)
                return
            if self._is_padded:  # the decoder sees one piece, and each may end in padding
                raise self._invalid("it continues after its padding")
            self._write(decoded)
            self._is_padded = view[whole - 1] == ord("=")
        self._carry = bytes(view[whole:])

    def end(self) -> None:
        """Decode a last group without padding, and close the sink; call it at the string's end.

        Raises:
            MalformedAnswerError: The string was cut off.
        """
        last = _standard(self._carry).rstrip(b"=")
        if last:
            if self._is_padded:
                raise self._invalid("it continues after its padding")
            padded = last + b"=" * (-len(last) % 4)
            try:
                decoded = pybase64.b64decode(padded, validate=True)
            except binascii.Error as error:
                raise self._invalid("its last group is incomplete") from error
            if pybase64.b64encode(decoded) != padded:
                raise self._invalid("it is cut off within a byte")
            self._write(decoded)
        self._carry = b""
        if self._start:  # a tiny image
            self._sink.write(self._start)
        if self._inner is None:
            self._sink.close()
        else:
            self._inner.end()
        self.is_whole = True

    def end_of_format(self) -> bool:
        """End an image whose string broke off; return if its format shows that it is whole."""
        try:
            self.end()
            self.is_whole = ends_whole(self._sink.blocks())
        except MalformedAnswerError:
            self.is_whole = False
        return self.is_whole

    def text(self) -> Iterator[bytes]:
        """Yield the base64 of what was decoded, and the characters that were not."""
        if self._inner is not None:
            yield from self._inner.text()
            return
        for block in self._sink.blocks():
            yield pybase64.b64encode(block)
        yield pybase64.b64encode(self._start or b"") + self._carry

    def _write(self, data: bytes) -> None:
        """Write decoded bytes; what is base64 once more is decoded again."""
        if self._start is not None:
            data = self._start + data
            if len(data) < _MIN_START_BYTES:
                self._start = data
                return
            inner = Base64Image(self._index, self._sink) if data.startswith(_TWICE) else None
            if inner is not None:
                inner.decode(data)
            else:
                self._sink.write(data)
            self._start, self._inner = None, inner
        elif self._inner is not None:
            self._inner.decode(data)
        else:
            self._sink.write(data)

    def _without_uri(self, text: bytes | memoryview) -> bytes | memoryview:
        """Return the text after "data:image/png;base64,"; hold back what may become one."""
        start = self._carry + bytes(text[:_MAX_DATA_URI_BYTES])
        if start.lstrip()[: len(_DATA_URI)].lower() != _DATA_URI[: len(start.lstrip())]:
            self._has_begun = True
            return text
        held, comma, rest = (self._carry + bytes(text)).partition(b",")
        if comma and held.rstrip().lower().endswith(b"base64"):
            self._has_begun, self._carry = True, b""
            return rest
        if comma or len(held) > _MAX_DATA_URI_BYTES:
            raise self._invalid("it is another kind of data URI")
        self._carry = held
        return b""

    def _invalid(self, reason: str) -> MalformedAnswerError:
        return MalformedAnswerError(
            f"image {self._index} of the answer is not valid base64: {reason}"
        )


def is_whole_image(data: bytes) -> bool:
    """Return whether decoded bytes are no tiny image, and no base64 once more."""
    return len(data) >= _MIN_START_BYTES and not data.startswith(_TWICE)


def _standard(text: bytes | memoryview) -> bytes:
    """Return base64 of any dress in the standard alphabet, without white space."""
    return bytes(text).translate(_FROM_URL_SAFE, _WHITESPACE)
