"""The lines of a result file while it arrives, each with its images. Memory is that of one line.

A line of a batch is `{"response": …, "key": …}`: its key comes behind the image, and the image has
up to 30 MB of base64. So each line is given a sink of its own when it begins, and shows whose it is
when it ends.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from gemini_batch.client.transport import AnswerSink
from gemini_batch.records import Outcome

SinkT = TypeVar("SinkT", bound=AnswerSink)


@dataclass(frozen=True, slots=True)
class ResultLine(Generic[SinkT]):
    """One line.

    Attributes:
        start_bytes: Offset in the file of its first byte.
        stop_bytes: Offset behind its newline.
        key: Of its request; None if it has none.
        outcome: As that of an interactive call; a line that can't be used is a `Failure`.
        is_torn: The file ended or broke within the line; it has no key then.
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
        whole_bytes: Offset behind the last whole line.
    """

    whole_bytes: int

    def __init__(
        self,
        open_sink: Callable[[], SinkT],
        redact: Callable[[bytes], bytes],
        start_bytes: int = 0,
    ) -> None:
        raise NotImplementedError

    def feed(self, chunk: bytes) -> Iterator[ResultLine[SinkT] | None]:
        """Yield the lines that end in the next bytes, and None after each bounded piece of work.

        Raises:
            OSError: A sink failed.
        """
        raise NotImplementedError

    def finish(self) -> ResultLine[SinkT] | None:
        """Return the last line if it has no newline: whole if its JSON is closed, else torn."""
        raise NotImplementedError
