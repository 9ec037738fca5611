"""A TCP proxy in a thread: it delays what passes, or breaks connections around COMMIT."""

import asyncio
import random
import threading
from types import TracebackType
from typing import Self

from tests.postgres import free_port


class Proxy:
    """Passes on to a port of this machine.

    Attributes:
        port: The port to connect to.
        target: The port that it passes on to; a test may set another.
        cut_share: Of the commits, how many lose their connection: half before the server has them,
            half after it has answered.
        delay_s: One way.
        cuts: The commits that were hit, before and after.
    """

    def __init__(
        self, target: int, *, cut_share: float = 0.0, delay_s: float = 0.0, seed: int = 7
    ) -> None:
        self.port = free_port()
        self.target = target
        self.cut_share = cut_share
        self.delay_s = delay_s
        self.cuts = {"before": 0, "after": 0}
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Self:
        """Serve until the end of the block."""
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Break all connections."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        tasks = set[asyncio.Task[None]]()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._pass_on(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self._ready.set()
        await self._ended.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lost = asyncio.Event()
        try:
            back, to = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(self._up(reader, to, lost))
        down = asyncio.create_task(self._down(back, writer, lost))
        try:
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (up, down):
                end.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            writer.transport.abort()
            to.transport.abort()

    async def _up(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await self._read(reader):
            if b"COMMIT\0" in data and not lost.is_set() and self._random.random() < self.cut_share:
                where = self._random.choice(("before", "after"))
                self.cuts[where] += 1
                if where == "before":
                    return
                lost.set()  # its rest passes too: the server answers when it has all
            to.write(data)

    async def _down(
        self, back: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: asyncio.Event
    ) -> None:
        while data := await self._read(back):
            if lost.is_set():
                return  # the server's word, which nobody hears
            writer.write(data)

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(1 << 16)
        except OSError:
            return b""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return data
