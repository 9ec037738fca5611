"""Result file of a batch: each line is made when a download comes to it."""

import asyncio
from collections.abc import Sequence
from threading import Lock

import orjson

from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.output import OutputLine
from gemini_batch.simulator.batch.spool import Spool

_GROUP = 4  # lines that are made together


class Results:
    """A result file that grows on the disk as it is read."""

    def __init__(
        self, lines: Sequence[OutputLine], data: Spool, maker: LineMaker, origin: str
    ) -> None:
        """Prepare the lines in this order; nothing is made yet."""
        self.made = Spool()
        self._lines = lines
        self._next = 0
        self._data = data
        self._maker = maker
        self._origin = origin
        self._one_at_a_time = Lock()

    @property
    def is_complete(self) -> bool:
        """Return whether all lines are made."""
        return self._next >= len(self._lines)

    async def extend(self, offset: int) -> None:
        """Make lines until there are bytes after `offset`, or the file is complete.

        Cancellation: lines that are being made are kept.
        """
        while self.made.size_bytes <= offset and not self.is_complete:
            await asyncio.to_thread(self._make_some, offset)

    def _make_some(self, offset: int) -> None:
        """Make the next lines, unless there are bytes after `offset`; blocks."""
        with self._one_at_a_time:
            if self.made.size_bytes > offset:
                return
            group = self._lines[self._next : self._next + _GROUP]
            for text in list(self._maker.threads.map(self._line, group)):
                self.made.append(text)
            self._next += len(group)

    async def complete(self) -> None:
        """Make all lines."""
        while not self.is_complete:
            await self.extend(self.made.size_bytes)

    def _line(self, placed: OutputLine) -> bytes:
        """Return a line of the file; the key is after a response, and before an error."""
        line = placed.line
        made = self._maker.make(line, self._data, self._origin)
        key = {} if placed.key is None else {"key": placed.key}
        content = {**made, **key} if "response" in made else {**key, **made}
        write = line.faults.stage("write")
        # orjson writes 11 MB in a tenth of the time, which matters for files of 1 GB.
        text = orjson.dumps(content) if write is None else write(content).replace(b"\n", b" ")
        return text[: len(text) // 2 if placed.is_torn else None] + b"\n"
