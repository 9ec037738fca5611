"""Result file of a batch: each line is made when a download comes to it."""

import asyncio
from collections.abc import Sequence
from itertools import islice

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
        self._left = iter(lines)
        self._data = data
        self._maker = maker
        self._origin = origin
        self._one_at_a_time = asyncio.Lock()
        self.is_complete = False

    async def extend(self, offset: int) -> None:
        """Make lines until there are bytes behind `offset`, or the file is complete."""
        async with self._one_at_a_time:
            while self.made.size_bytes <= offset and not self.is_complete:
                group = list(islice(self._left, _GROUP))
                self.is_complete = len(group) < _GROUP
                made = await asyncio.gather(
                    *(asyncio.to_thread(self._line, line) for line in group)
                )
                for text in made:
                    await asyncio.to_thread(self.made.append, text)

    async def complete(self) -> None:
        """Make all lines."""
        while not self.is_complete:
            await self.extend(self.made.size_bytes)

    def _line(self, placed: OutputLine) -> bytes:
        """Return a line of the file; the key is behind a response, and before an error."""
        line = placed.line
        made = self._maker.make(line, self._data, self._origin)
        key = {} if placed.key is None else {"key": placed.key}
        content = {**made, **key} if "response" in made else {**key, **made}
        write = line.faults.stage("write")
        # orjson writes 11 MB in a tenth of the time, which matters for files of 1 GB.
        text = orjson.dumps(content) if write is None else write(content).replace(b"\n", b" ")
        return text[: len(text) // 2 if placed.is_torn else None] + b"\n"
