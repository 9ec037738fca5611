"""The body of one answer while it arrives: its images, its envelope, and what can't be parsed."""

from collections.abc import Iterable, Iterator

from gemini_batch.client.body_decoder import BodyDecoder
from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.client.malformed import (
    MAX_BODY_BYTES,
    WEB_PAGE,
    MalformedAnswerError,
    check_limit,
)
from gemini_batch.client.response import has_picture
from gemini_batch.client.transport import AnswerSink
from gemini_batch.records import FailureKind


class Receiver:
    """Decodes a body into a sink; after an error, sets aside what still comes.

    Attributes:
        error: Why the answer can't be used.
    """

    def __init__(self, sink: AnswerSink, encoding: str) -> None:
        self.error: MalformedAnswerError | None = None
        self._sink = sink
        self._decoder = BodyDecoder(encoding)
        self._extractor = ImageExtractor(sink.open_image, open_aside=sink.open_aside)
        self._has_room = True
        self._fed_bytes = 0

    @property
    def is_done(self) -> bool:
        """True if nothing more has to be read: the answer is whole, or it can't be used."""
        return self.error is not None or self._extractor.is_whole or self._decoder.is_done

    @property
    def has_begun(self) -> bool:
        """True once something came of the answer, and no keep-alive bytes alone."""
        return self.error is not None or self._extractor.has_begun

    @property
    def is_closed(self) -> bool:
        """True if the answer may end here."""
        return self.error is None and self._extractor.is_closed

    @property
    def has_room(self) -> bool:
        """True if what can't be parsed can still be set aside."""
        return self._has_room

    def feed(self, chunk: bytes, *, is_last: bool = False) -> Iterator[None]:
        """Parse the next bytes of the body, a piece of bounded length with each item.

        Raises:
            OSError: The disk failed.
        """
        self._fed_bytes += len(chunk)
        try:
            for piece in (chunk,) if self.error else self._decoded(chunk, is_last=is_last):
                yield
                self._feed(piece)
        except MalformedAnswerError as error:  # of the decoder
            self.error = error
            has_room = self._extractor.set_aside(self._decoder.unread)
            self._has_room = has_room and error.kind is not FailureKind.TOO_LARGE

    def _decoded(self, chunk: bytes, *, is_last: bool) -> Iterable[bytes]:
        # Of a compressed body the extractor sees less: a header of gzip may have no end.
        check_limit(self._fed_bytes, MAX_BODY_BYTES, "bytes")
        return self._decoder.decode(chunk, is_last=is_last)

    def _feed(self, piece: bytes) -> None:
        if self.error is None:
            try:
                self._extractor.feed(piece)
            except MalformedAnswerError as error:
                self.error = error
                # A body without end is not worth reading further.
                self._has_room = error.kind is not FailureKind.TOO_LARGE
                piece = b""
        if self.error is not None and self._has_room:
            self._has_room = self._extractor.set_aside(piece)

    def finish(self) -> bytes:
        """Return the envelope, once the body has ended; it is no JSON if only a picture is whole.

        Raises:
            MalformedAnswerError: The answer can't be used.
        """
        if (cut := self.cut_off()) is not None:
            return cut
        if self.error is not None and not self._extractor.is_closed:
            raise self.error
        return self._extractor.finish()

    @property
    def whole_images(self) -> int:
        """Number of images that have ended."""
        return self._extractor.whole_images

    def cut_off(self, *, is_end: bool = True) -> bytes | None:
        """Return the envelope of an answer that breaks off after its picture, else None.

        It is no JSON; see `ImageExtractor`.
        """
        is_past_limit = self.error is not None and self.error.kind is not FailureKind.MALFORMED
        if is_past_limit or self._extractor.is_closed:
            return None
        cut = self._extractor.cut_off(is_end=is_end)
        return cut if cut is not None and has_picture(cut, self._sink.arrived()) else None

    def body(self) -> Iterable[bytes]:
        """Yield the body again, as far as it was kept; nothing of a web page."""
        if self.error is not None and str(self.error) == WEB_PAGE:
            return
        yield from self._extractor.body()
