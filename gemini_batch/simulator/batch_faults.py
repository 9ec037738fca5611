"""Table of the faults of files and batches. A fault works at one place of the protocol.

Each is a behaviour that users report, or that no one can rule out: a client that is right under all
of them is right with any server. One line adds a fault; the code of its place looks for
its name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from gemini_batch.errors import ConfigError


class At(StrEnum):
    """Places of the protocol; `match` of a rule is searched in what is in brackets."""

    START = "start of an upload [the file's display name]"
    CHUNK = "one request of an upload [the file's display name]"
    FILE = "end of an upload [the file's display name]"
    MODEL = "models.get, models.list and create []"
    CREATE = "creation of a batch [its display name]"
    COURSE = "the whole life of a batch, chosen when it is created [its display name]"
    LINE = "one line of a batch, chosen when it is created [its prompt]"
    GET = "get of a batch [its display name]"
    LIST = "list of the batches []"
    DOWNLOAD = "download of a result file [the batch's display name]"


@dataclass(frozen=True, slots=True)
class BatchFault:
    """A fault of files and batches.

    Attributes:
        at: Its place.
        summary: One line for `--list-faults`.
        seconds: Duration if a name has none; None if the fault takes no time.
    """

    at: At
    summary: str
    seconds: float | None = None


BATCH_FAULTS: dict[str, BatchFault] = {
    "upload-503": BatchFault(At.START, "an upload can't be started: 503 without a message"),
    "upload-full": BatchFault(At.START, "the project's files are at their limit of 20 GB: 429"),
    "upload-cut": BatchFault(At.CHUNK, "half of the bytes are kept, then a reset (RST)"),
    "upload-lost": BatchFault(
        At.CHUNK, "all bytes arrive, the last 256 KiB or all of fewer are not kept, then a reset"
    ),
    "upload-silent": BatchFault(
        At.CHUNK, "the bytes are kept, and the answer is a 503 without X-Goog-Upload-Status"
    ),
    "upload-chunk-503": BatchFault(At.CHUNK, "a 503 before a byte is kept"),
    "upload-gone": BatchFault(At.CHUNK, "the upload is forgotten: 404 from now on"),
    "upload-mime": BatchFault(
        At.FILE, "the MIME type is refused: 200, and an error 400 instead of the file"
    ),
    "upload-final-lost": BatchFault(
        At.FILE, "the file is complete, and a reset (RST) instead of the answer"
    ),
    "file-processing": BatchFault(At.FILE, "the file is PROCESSING for 60 s", 60.0),
    "no-batch": BatchFault(At.MODEL, "the model has no batchGenerateContent"),
    "create-400": BatchFault(At.CREATE, "the first line has a field that is unknown: 400"),
    "create-429": BatchFault(At.CREATE, "a 429 that names neither a quota nor a wait"),
    "create-429-zero": BatchFault(At.CREATE, "no quota for batches (limit: 0)"),
    "create-503": BatchFault(At.CREATE, "a 503, and no batch is made"),
    "create-503-after": BatchFault(At.CREATE, "a batch is made, and the answer is a 503"),
    "create-reset-after": BatchFault(
        At.CREATE, "a batch is made, and a reset (RST) instead of the answer"
    ),
    "create-hang-after": BatchFault(
        At.CREATE, "a batch is made, and no answer until the client gives up", 600.0
    ),
    "list-lag": BatchFault(At.COURSE, "the batch is not in the list for 60 s", 60.0),
    "stuck": BatchFault(At.COURSE, "the batch is PENDING until it is EXPIRED after 48 h"),
    "failed": BatchFault(At.COURSE, "the batch ends as FAILED, without results"),
    "failed-partial": BatchFault(
        At.COURSE, "the batch ends as FAILED, with results of the first half"
    ),
    "expired": BatchFault(At.COURSE, "the batch ends as EXPIRED, without results"),
    "expired-partial": BatchFault(
        At.COURSE, "the batch ends as EXPIRED, with results of the first half"
    ),
    "cancelled-partial": BatchFault(
        At.COURSE, "if the batch is cancelled, there are results of the first half"
    ),
    "cancel-late": BatchFault(At.COURSE, "the batch runs for 60 s more when it is cancelled", 60.0),
    "cancel-ignored": BatchFault(At.COURSE, "the batch ends as SUCCEEDED although cancelled"),
    "delete-cancels": BatchFault(At.COURSE, "a batch that is deleted stops"),
    "vanished": BatchFault(At.COURSE, "the batch is gone once it has run: 404, not in the list"),
    "op-error": BatchFault(At.COURSE, "the batch is done with an error, and its state is RUNNING"),
    "no-output": BatchFault(At.COURSE, "the batch ends as SUCCEEDED, and never names a file"),
    "output-late": BatchFault(
        At.COURSE, "the batch ends as SUCCEEDED, and names its file 60 s later", 60.0
    ),
    "job-states": BatchFault(At.COURSE, "states are named JOB_STATE_ instead of BATCH_STATE_"),
    "top-level": BatchFault(At.COURSE, "the batch comes without the Operation around it"),
    "no-stats": BatchFault(At.COURSE, "the batch has no batchStats"),
    "shuffled": BatchFault(At.COURSE, "the results are in another order than the requests"),
    "lost-key": BatchFault(At.LINE, "no result for this request"),
    "duplicate-key": BatchFault(At.LINE, "the result of this request is there twice"),
    "unknown-key": BatchFault(At.LINE, "the result has a key that no request has"),
    "no-key": BatchFault(At.LINE, "the result has no key"),
    "swapped-keys": BatchFault(At.LINE, "the result and the next one have each other's key"),
    "torn-line": BatchFault(At.LINE, "the line ends in the middle of the result"),
    "line-status": BatchFault(At.LINE, "an error is named `status` instead of `error`"),
    "smaller": BatchFault(At.LINE, "the image has half the width and height"),
    "square": BatchFault(At.LINE, "the image has the aspect ratio 1:1"),
    "get-404": BatchFault(At.GET, "a 404, although the batch exists"),
    "get-429": BatchFault(At.GET, "a 429 without details"),
    "get-503": BatchFault(At.GET, "a 503"),
    "inlined-503": BatchFault(At.GET, "a 503 if the batch has inlined answers"),
    "list-429": BatchFault(At.LIST, "a 429 without details"),
    "list-503": BatchFault(At.LIST, "a 503"),
    "list-cut": BatchFault(At.LIST, "the list ends with this page, although there are more"),
    "no-range": BatchFault(At.DOWNLOAD, "a Range is ignored: 200 and the whole file"),
    "bad-range": BatchFault(At.DOWNLOAD, "a 206 that says and has another range"),
    "lying-range": BatchFault(At.DOWNLOAD, "a 206 that says the range and has other bytes"),
    "no-length": BatchFault(At.DOWNLOAD, "in chunks, without Content-Length"),
    "download-cut": BatchFault(At.DOWNLOAD, "half of it, then a reset (RST)"),
    "download-short": BatchFault(
        At.DOWNLOAD, "half of it, up to the middle of a line, with a clean end"
    ),
    "download-stall": BatchFault(At.DOWNLOAD, "half of it, then nothing until given up", 600.0),
    "download-404": BatchFault(At.DOWNLOAD, "a 404"),
    "download-503": BatchFault(At.DOWNLOAD, "a 503"),
    "download-redirect": BatchFault(At.DOWNLOAD, "a redirect to another host"),
    "corrupt-output": BatchFault(At.DOWNLOAD, "the lines are in another order each time"),
}


def is_batch_fault(names: str) -> bool:
    """Return whether names, joined by `+`, are of this table; the first one decides."""
    return names.partition("+")[0].partition("=")[0] in BATCH_FAULTS


def parse_batch_faults(names: str) -> Iterator[tuple[str, float | None]]:
    """Yield each fault and its seconds.

    Args:
        names: One name, or several joined by `+`; each may have a time in seconds after `=`.

    Raises:
        ConfigError: A name is unknown, or a time is not a number of seconds.
    """
    for text in names.split("+"):
        name, _, time_s = text.partition("=")
        if name not in BATCH_FAULTS:
            raise ConfigError(
                f"unknown fault {name!r} of files and batches; see `simulate --list-faults`"
            )
        if not time_s:
            yield name, BATCH_FAULTS[name].seconds
            continue
        if not time_s.replace(".", "", 1).isdecimal():
            raise ConfigError(
                f"fault {text!r}: got {time_s!r} as time; allowed: seconds, such as {name}=5"
            )
        yield name, float(time_s)
