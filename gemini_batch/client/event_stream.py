"""The JSON in a stream of server-sent events.

https://html.spec.whatwg.org/multipage/server-sent-events.html (2026-11-30). Gateways that stream
to every client answer a plain request in this form.
"""

import re

# The start of a line: a field that is known, and white space after its colon.
_FIELD = re.compile(rb"(data|event|id|retry)[ \t]*:[ \t]*|:")
_MAX_FIELD_BYTES = 32
_DONE = b"[DONE]"


class EventStream:
    """A push parser that returns the data of events that are objects or arrays.

    Attributes:
        is_done: The stream said so: `data: [DONE]`.
    """

    STARTS = (b"data:", b"event:", b"id:", b"retry:", b":", b"data :")
    """The possible starts of its first line."""

    def __init__(self) -> None:
        self.is_done = False
        self._held = b""  # the start of a line that is too short to be understood
        self._is_after_cr = False  # a newline would belong to the carriage return before it
        self._in_line = False
        self._keeps_line = False
        self._keeps_event: bool | None = None  # None before its first data

    def decode(self, chunk: bytes) -> bytes:
        """Return the JSON in the next bytes of the body; an event ends with a newline."""
        chunk, self._held = self._held + self._with_newlines(chunk), b""
        pieces: list[bytes] = []
        pos = 0
        while pos < len(chunk):
            newline = chunk.find(b"\n", pos)
            if not self._in_line:
                if newline < 0 and len(chunk) - pos < _MAX_FIELD_BYTES:
                    self._held = chunk[pos:]
                    break
                pos = self._begin_line(chunk, pos, newline)
            stop = len(chunk) if newline < 0 else newline + 1
            if self._keeps_line:
                pieces.append(chunk[pos:stop])
            self._in_line, pos = newline < 0, stop
        return b"".join(pieces)

    def _with_newlines(self, chunk: bytes) -> bytes:
        """Return the bytes with a newline at the end of each line: a CR, a CRLF or an LF."""
        if self._is_after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._is_after_cr = False
        self._is_after_cr = self._is_after_cr or chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _begin_line(self, chunk: bytes, pos: int, newline: int) -> int:
        """Decide if a line is kept; return where what is kept of it begins."""
        field = _FIELD.match(chunk, pos, max(newline, 0) or len(chunk))
        if field is None:
            if not chunk[pos : newline + 1 or len(chunk)].strip():  # the end of an event
                self._keeps_line, self._keeps_event = False, None
            else:
                # JSON over many lines of which only the first one is marked.
                self._keeps_line = bool(self._keeps_event)
            return pos
        if field[1] != b"data":
            self._keeps_line = False
            return field.end()
        value = chunk[field.end() : field.end() + len(_DONE)]
        self.is_done = self.is_done or value == _DONE
        if self._keeps_event is None:
            self._keeps_event = value.startswith((b"{", b"[")) and value != _DONE
        self._keeps_line = self._keeps_event
        return field.end()
