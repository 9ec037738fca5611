"""One image of an answer, decoded from base64 while it arrives."""

import binascii

import pybase64

from gemini_batch.client.transport import ImageSink
from gemini_batch.records import FailureKind

_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


class MalformedAnswerError(ValueError):
    """The answer can't be used. `kind` is `TOO_LARGE` past a limit, else `MALFORMED`."""

    def __init__(self, message: str, kind: FailureKind = FailureKind.MALFORMED) -> None:
        super().__init__(message)
        self.kind = kind


class Base64Image:
    """Decodes the pieces of a base64 string into a sink.

    Bytes in JSON may use the standard or the URL-safe alphabet
    (https://protobuf.dev/programming-guides/json/, 2026-11-29), and may lack their padding. But
    Google's API always sends the padding, and without it the end of the image may be missing: such
    an answer is refused.
    """

    def __init__(self, index: int, sink: ImageSink) -> None:
        self._index = index
        self._sink = sink
        self._carry = b""  # up to 3 characters of a group of four that continues in the next piece
        self._is_padded = False

    def decode(self, text: bytes | memoryview) -> None:
        """Decode the next piece, and write it at once.

        Raises:
            MalformedAnswerError: It is not valid base64.
        """
        # A copy for groups that straddle pieces: decoding their 3 bytes apart was measured to be
        # slower, and costs a second write.
        view = memoryview(b"".join((self._carry, text)) if self._carry else text)
        whole = len(view) - len(view) % 4
        self._carry = bytes(view[whole:])
        if not whole:
            return
        if self._is_padded:  # the decoder sees one piece, and each may end in padding
            raise self._invalid("it continues after its padding")
        self._is_padded = view[whole - 1] == ord("=")
        self._sink.write(self._decoded(view[:whole]))

    def end(self) -> None:
        """Close the sink at the end of the string.

        Raises:
            MalformedAnswerError: The last group is incomplete.
        """
        if self._carry:
            raise self._invalid("its length is not a multiple of four")
        self._sink.close()

    def _decoded(self, groups: memoryview) -> bytes:
        try:
            return pybase64.b64decode(groups, validate=True)
        except binascii.Error:
            pass  # perhaps the other alphabet
        try:
            return pybase64.b64decode(bytes(groups).translate(_FROM_URL_SAFE), validate=True)
        except binascii.Error as error:
            raise self._invalid(str(error)) from error

    def _invalid(self, reason: str) -> MalformedAnswerError:
        return MalformedAnswerError(
            f"image {self._index} of the answer is not valid base64: {reason}"
        )
