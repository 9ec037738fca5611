"""The results of a batch: its file, downloaded line by line, over cuts of the connection."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic

from gemini_batch.client.downloading import Download
from gemini_batch.client.fairness import LoopBudget
from gemini_batch.client.files import Files
from gemini_batch.client.result_lines import ResultLine, ResultLines, SinkT
from gemini_batch.records import ApiError, Failure, FailureKind, Reply

# Tries without a new whole line, and the pause before the second; each further one is twice as
# long. The next run tries again.
TRIES = 4
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
_TRANSIENT = frozenset({408, 500, 502, 503, 504})
_TRANSIENT_KINDS = frozenset(
    {FailureKind.TIMEOUT, FailureKind.DISCONNECTED, FailureKind.UNREACHABLE}
)


class Results(Generic[SinkT]):
    """Reads a result file once; a cut download continues one byte before its last whole line.

    Where the server can't continue, all is read again: lines with keys that were seen come again,
    perhaps in another order, and the receiver drops them. A file in which no line has a key or an
    image is not a result file, and a failure. A sink is opened for each line, and is in exactly one
    line that is yielded, or the last one that was opened when an error is raised.

    Attributes:
        failure: Why the end of the file was not reached; None if it was, also within a line that
            is torn each time. Look at it after `lines`.
        restarts: Number of times that the file was read again from its start.
    """

    def __init__(self, files: Files, name: str, open_sink: Callable[[], SinkT]) -> None:
        self._files = files
        self._name = name
        self._open_sink = open_sink
        self._redact = files.redact
        self._loop_budget = LoopBudget()
        self._lines = ResultLines(open_sink, self._redact)
        self._etag = ""
        self._can_continue = True
        self._odd: ResultLine[SinkT] | None = None  # the first line, while no line is a result
        self._has_results = False
        self._is_torn = False  # the file ended within its last line
        self.failure: ApiError | Failure | None = None
        self.restarts = 0

    async def lines(self) -> AsyncGenerator[ResultLine[SinkT], None]:
        """Yield the lines of the file `files/…`, to its end or to a `failure`.

        A torn line is yielded, for its sink; after it comes the same line again if the download
        continues.

        Cancellation: safe; the sink of the line that arrives is left to its opener.

        Raises:
            OSError: A sink failed.
        """
        tries, most_bytes = 0, 0
        while True:
            async for line in self._read():
                self._look_at(line)
                yield line
            self.failure = self.failure or self._refusal()
            is_torn = self.failure is None and self._is_torn
            if not is_torn and (self.failure is None or not _is_transient(self.failure)):
                return
            tries = 0 if self._lines.whole_bytes > most_bytes else tries
            most_bytes = max(most_bytes, self._lines.whole_bytes)
            tries += 1
            if tries == TRIES:
                return
            asked_s = self.failure.retry_delay_s if isinstance(self.failure, ApiError) else None
            pause_s = max(FIRST_PAUSE_S * 2 ** (tries - 1), asked_s or 0.0)
            await asyncio.sleep(min(MAX_PAUSE_S, pause_s))

    async def _read(self) -> AsyncIterator[ResultLine[SinkT]]:
        """Yield the lines of one download, and note its failure."""
        whole_bytes = self._lines.whole_bytes
        start_bytes = whole_bytes - 1 if whole_bytes and self._can_continue else 0
        async with self._files.download(self._name, start_bytes, self._etag) as download:
            if not isinstance(download, Download):
                self.failure = download
                return
            self._begin(download)
            known = self._lines.last_byte if download.start_bytes else b""
            async for chunk in download.chunks():
                if not chunk.startswith(known):
                    self._can_continue = False
                    message = "the server continues the results at another place"
                    self.failure = Failure(FailureKind.DISCONNECTED, message, may_be_billed=False)
                    return
                await self._loop_budget.acquire()
                for line in self._lines.feed(chunk.removeprefix(known)):
                    yield line
                    await self._loop_budget.acquire()
                known = b""
            self._can_continue = self._can_continue and download.can_continue
            self.failure = download.failure
        last = self._lines.finish()
        self._is_torn = last is not None and last.is_torn
        if last is not None:
            yield last

    def _look_at(self, line: ResultLine[SinkT]) -> None:
        is_result = line.key is not None or isinstance(line.outcome, Reply)
        self._has_results = self._has_results or is_result
        self._odd = self._odd or line

    def _refusal(self) -> ApiError | Failure | None:
        """Return what came instead of results: a login page, or an error with the status 200."""
        if self._has_results or self._odd is None:
            return None
        if isinstance(self._odd.outcome, ApiError):
            return self._odd.outcome
        why = f": {self._odd.outcome.message}" if isinstance(self._odd.outcome, Failure) else ""
        message = f"the server sends something other than the results{why}"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)

    def _begin(self, download: Download) -> None:
        """Continue after the last whole line, or begin again."""
        self._etag = download.etag
        if download.start_bytes == 0 and self._lines.whole_bytes:
            self.restarts += 1
            self._lines = ResultLines(self._open_sink, self._redact)


def _is_transient(error: ApiError | Failure) -> bool:
    if isinstance(error, Failure):
        return error.kind in _TRANSIENT_KINDS
    return error.http_status in _TRANSIENT
