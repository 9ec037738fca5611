"""The lines of a result file while it arrives, each with its images. Memory is that of one line.

A line of a batch is `{"response": …, "key": …}`: its key comes after the image, and the image has
up to 30 MB of base64. So each line is given a sink of its own when it begins, and shows whose it is
when it ends.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import orjson

from gemini_batch.client.answer_paths import LINE
from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.plain_lines import taken_apart
from gemini_batch.client.redaction import redacted
from gemini_batch.client.response_lines import parse_line
from gemini_batch.client.transport import AnswerSink
from gemini_batch.client.untrusted_json import as_name
from gemini_batch.records import Failure, FailureKind, Outcome, Reply

SinkT = TypeVar("SinkT", bound=AnswerSink)
Redact = Callable[[bytes], bytes]

# A line that can't be parsed still shows its key at one of its ends.
_END_BYTES = 512
_FIRST_KEY = re.compile(rb'\s*\{\s*"key"\s*:\s*("(?:[^"\\]|\\.)*")')
_LAST_KEY = re.compile(rb'"key"\s*:\s*("(?:[^"\\]|\\.)*")\s*\}\s*\Z')


@dataclass(frozen=True, slots=True)
class ResultLine(Generic[SinkT]):
    """One line.

    Attributes:
        start_bytes: Offset in the file of its first byte.
        stop_bytes: Offset after its newline.
        key: Of its request; None if it has none.
        outcome: As that of an interactive call; a line that can't be used is a `Failure`.
        is_torn: The file ended or broke within the line; it has no key then, unless that came
            first. Its outcome is a reply if its picture is whole.
        sink: Holds its images; the receiver of the line publishes or discards them.
    """

    start_bytes: int
    stop_bytes: int
    key: str | None
    outcome: Outcome
    is_torn: bool
    sink: SinkT


class ResultLines(Generic[SinkT]):
    """A push parser that returns the lines in the bytes of a result file.

    `open_sink` is called when a line begins. `redact` takes the API key out of its JSON.

    Attributes:
        whole_bytes: Offset after the last whole line.
        last_byte: The byte before that: a newline, or the last one of JSON that is closed.
    """

    def __init__(
        self, open_sink: Callable[[], SinkT], redact: Redact, start_bytes: int = 0
    ) -> None:
        self._open_sink = open_sink
        self._redact = redact
        self._line: _Line[SinkT] | None = None
        self._offset_bytes = start_bytes
        self.whole_bytes = start_bytes
        self.last_byte = b""

    def feed(self, chunk: bytes) -> Iterator[ResultLine[SinkT]]:
        """Yield the lines that end in the next bytes; nothing is read of a line before that.

        Raises:
            OSError: A sink failed.
        """
        pos = 0
        while pos < len(chunk):
            newline = chunk.find(b"\n", pos)
            stop = len(chunk) if newline < 0 else newline
            piece = chunk if stop - pos == len(chunk) else chunk[pos:stop]
            start_bytes, pos = self._offset_bytes, stop + 1
            found = taken_apart(piece) if newline >= 0 and self._line is None else None
            if found is None:
                self._feed_line(piece)
            self._offset_bytes += len(piece) + (newline >= 0)
            if newline >= 0:
                line, self._line = self._line, None
                self.whole_bytes, self.last_byte = self._offset_bytes, b"\n"
                if found is not None:
                    yield self._plain(piece, *found, start_bytes)
                elif line is not None:
                    yield line.ended(self.whole_bytes)

    def finish(self) -> ResultLine[SinkT] | None:
        """Return the last line if it has no newline: whole if its JSON is closed, else torn.

        What is fed from then on is what follows the last whole line.
        """
        line, self._line = self._line, None
        offset_bytes, self._offset_bytes = self._offset_bytes, self.whole_bytes
        if line is None:
            return None
        if not line.is_closed:
            return line.torn(offset_bytes)
        self.whole_bytes, self.last_byte = offset_bytes, line.last_byte
        self._offset_bytes = offset_bytes
        return line.ended(offset_bytes)

    def _plain(
        self, line: bytes, envelope: bytes, image: bytes, start_bytes: int
    ) -> ResultLine[SinkT]:
        """Return a line that was taken apart at once."""
        sink = self._open_sink()
        sink.keepable(redacted([line], self._redact))
        file = sink.open_image(0)
        file.write(image)
        file.close()
        key, outcome = parse_line(self._redact(envelope), sink.arrived())
        return ResultLine(start_bytes, self.whole_bytes, key, outcome, False, sink)

    def _feed_line(self, piece: bytes) -> None:
        if self._line is None:
            if not piece.strip():
                return
            self._line = _Line(self._open_sink(), self._offset_bytes, self._redact)
        self._line.feed(piece)


class _Line(Generic[SinkT]):
    """The line that arrives."""

    def __init__(self, sink: SinkT, start_bytes: int, redact: Redact) -> None:
        self._sink = sink
        self._start_bytes = start_bytes
        self._redact = redact
        self._extractor = ImageExtractor(sink.open_image, open_aside=sink.open_aside, paths=LINE)
        sink.keepable(redacted(self._extractor.body(), redact))
        self._error: MalformedAnswerError | None = None
        self._has_room = True
        self._head = b""
        self._tail = b""

    @property
    def is_closed(self) -> bool:
        """True if the JSON of the line is closed."""
        return self._error is None and self._extractor.is_closed

    @property
    def last_byte(self) -> bytes:
        """The last byte that was fed."""
        return self._tail[-1:]

    def feed(self, piece: bytes) -> None:
        """Take the next bytes; once the line can't be parsed, set them aside."""
        self._tail = (self._tail + piece[-_END_BYTES:])[-_END_BYTES:]
        if len(self._head) < _END_BYTES:
            self._head += piece[: _END_BYTES - len(self._head)]
        if self._error is None:
            try:
                self._extractor.feed(piece)
            except MalformedAnswerError as error:
                self._error = error
                self._has_room = (
                    error.kind is not FailureKind.TOO_LARGE and self._extractor.set_aside(b"")
                )
        elif self._has_room:
            self._has_room = self._extractor.set_aside(piece)

    def ended(self, stop_bytes: int) -> ResultLine[SinkT]:
        """Return the whole line."""
        try:
            if self._error is not None:
                raise self._error
            envelope = self._redact(self._extractor.finish())
        except MalformedAnswerError as error:
            found = self._cut_off()
            key, outcome = found or (None, self._failure(error))
            return self._result(stop_bytes, key or self._key(), outcome)
        key, outcome = parse_line(envelope, self._sink.arrived())
        return self._result(stop_bytes, key, outcome)

    def _cut_off(self) -> tuple[str | None, Outcome] | None:
        """Return what a line means that breaks off after its picture, else None."""
        if self._error is not None and self._error.kind is not FailureKind.MALFORMED:
            return None
        cut = self._extractor.cut_off()
        found = None if cut is None else parse_line(self._redact(cut), self._sink.arrived())
        return found if found is not None and isinstance(found[1], Reply) else None

    def torn(self, stop_bytes: int) -> ResultLine[SinkT]:
        """Return the line that broke off."""
        if (found := self._cut_off()) is not None:
            key, outcome = found
            return self._result(stop_bytes, key, outcome, is_torn=True)
        message = f"the results break off after {stop_bytes:,} bytes, within a line"
        cut_off = Failure(FailureKind.DISCONNECTED, message, may_be_billed=True)
        failure = self._failure(self._error) if self._error is not None else cut_off
        return self._result(stop_bytes, None, failure, is_torn=True)

    def _failure(self, error: MalformedAnswerError) -> Failure:
        message = error.redacted(lambda text: self._redact(text.encode()).decode())
        return Failure(error.kind, message, may_be_billed=True)

    def _result(
        self, stop_bytes: int, key: str | None, outcome: Outcome, *, is_torn: bool = False
    ) -> ResultLine[SinkT]:
        return ResultLine(self._start_bytes, stop_bytes, key, outcome, is_torn, self._sink)

    def _key(self) -> str | None:
        """Return the key of a line that can't be parsed."""
        found = _FIRST_KEY.match(self._head) or _LAST_KEY.search(self._tail)
        try:
            return as_name(orjson.loads(found[1])) if found else None
        except orjson.JSONDecodeError:
            return None
