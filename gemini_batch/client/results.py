"""The results of a batch: its file, downloaded line by line, over cuts of the connection."""

from collections.abc import AsyncIterator, Callable
from typing import Generic

from gemini_batch.client.files import Files
from gemini_batch.client.result_lines import ResultLine, SinkT
from gemini_batch.records import ApiError, Failure


class Results(Generic[SinkT]):
    """Reads a result file once; a cut download continues one byte before its last whole line.

    Where the server can't continue, all is read again: lines with keys that were seen come again,
    perhaps in another order, and the receiver drops them. A sink is opened for each line, and is
    in exactly one line that is yielded, or the last one that was opened when an error is raised.

    Attributes:
        failure: Why the end of the file was not reached; None if it was. Look at it after `lines`.
        restarts: Number of times that the file was read again from its start.
    """

    failure: ApiError | Failure | None
    restarts: int

    def __init__(self, files: Files, name: str, open_sink: Callable[[], SinkT]) -> None:
        raise NotImplementedError

    def lines(self) -> AsyncIterator[ResultLine[SinkT]]:
        """Yield the lines of the file `files/…`, to its end or to a `failure`.

        A torn line is yielded, for its sink; after it comes the same line again if the download
        continues.

        Cancellation: safe; the sink of the line that arrives is left to its opener.

        Raises:
            OSError: A sink failed.
        """
        raise NotImplementedError
