"""What can go wrong before or around a run, as exceptions that a person can act on.

::

    GeminiBatchError
    ├── InputError              mend the input, then run again
    │   ├── ManifestError       one or more lines of the manifest are wrong
    │   └── ConfigError         a flag, a config file, a tier or the environment is wrong
    │       └── NoKeyError      there is no API key
    ├── FolderBusyError         another run holds the output folder
    └── StorageError            the disk or a file of the output folder failed

Whatever goes wrong with one call is a value and never raised: `gemini_batch.records.Failure`, and the `Stop` of a whole run.
"""

import errno
from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar, NamedTuple, Self


class ExitCode(IntEnum):
    """What the process says at its end. Of several that apply to a run, the first of 130, 143, 8, 6, 5, 4 is used.

    Attributes:
        words: What it means, for help and README.
    """

    words: str

    def __new__(cls, code: int, words: str) -> Self:
        """Make a code with its meaning."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.words = words
        return made

    DONE = 0, "all done, or nothing to do"
    BUG = 1, "a bug of gemini_batch; its traceback is in the file that is named"
    USAGE = 2, "wrong command or flag; nothing was sent"
    BAD_INPUT = 3, "wrong manifest, tier, config or environment; nothing was sent"
    INCOMPLETE = (
        4,
        "ended, but some calls are failed, rejected or uncertain; for verify: found something wrong",
    )
    STOPPED = (
        5,
        "stopped by quota, billing, budget, deadline or outage: run again later; the last line says when",
    )
    REFUSED = 6, "no key, or the API refuses the key, the model or the place"
    BUSY = 7, "another run holds the output folder"
    STORAGE = 8, "the disk failed, is full, or a file of the output folder is damaged"
    INTERRUPTED = 130, "interrupted by Ctrl-C: run again to go on"
    TERMINATED = 143, "asked to end by SIGTERM, or the terminal was closed: run again to go on"


class GeminiBatchError(Exception):
    """The root of every error that this package raises on purpose; its text is a sentence for a person."""

    exit_code: ClassVar[ExitCode]


class InputError(GeminiBatchError):
    """What the person gave is wrong; nothing was sent."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(InputError):
    """A flag, a config file, a tier or the environment is wrong; nothing was sent."""


class NoKeyError(ConfigError):
    """There is no API key; nothing was sent."""

    exit_code = ExitCode.REFUSED


class Problem(NamedTuple):
    """One thing that is wrong in one line of a manifest.

    Attributes:
        line: Line number, from 1; 0 when the file as a whole is meant.
        field: The field's path in the line (`images[0]`), or `""` for the line as a whole.
        message: What was found, what is allowed, and what to do where that is not plain.
    """

    line: int
    field: str
    message: str

    def text(self, source: str) -> str:
        """Return `source:line: field: message`, without the parts that do not apply."""
        where = f"{source}:{self.line}" if self.line else source
        return (
            f"{where}: {self.field}: {self.message}" if self.field else f"{where}: {self.message}"
        )


class ManifestError(InputError):
    """The manifest has problems; nothing was sent.

    Attributes:
        source: The manifest's path, as the person gave it.
        problems: The first problems in the order of lines, at most the number that is shown.
        total: How many problems there are in all.
    """

    def __init__(self, source: str, problems: Sequence[Problem], total: int | None = None) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = len(self.problems) if total is None else total
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Return one text a problem, and a last one that counts those not shown."""
        shown = [problem.text(self.source) for problem in self.problems]
        hidden = self.total - len(shown)
        if hidden:
            shown.append(f"{self.source}: and {hidden:,} more problems like these")
        return shown


class FolderBusyError(GeminiBatchError):
    """Another run holds the output folder."""

    exit_code = ExitCode.BUSY


class StorageError(GeminiBatchError):
    """The disk, or a file of the output folder, failed or can't be trusted."""

    exit_code = ExitCode.STORAGE


OUT_OF_MEMORY = "this machine has no memory, or no thread, left: have less in flight by --concurrency, or end other programs"
TOO_MANY_FILES = (
    "too many open files: raise the limit (ulimit -n), or have less in flight by --concurrency"
)


def describe_os_error(error: OSError) -> str:
    """Return in words what the system says of a file, and of which; not the error's own text, which is Python's: `[Errno 2] … -> …`."""
    what = error.strerror or str(error) or type(error).__name__
    return (
        f"{error.filename}: {what}" if isinstance(error.filename, str) and error.filename else what
    )


def out_of_resources(error: BaseException) -> str:
    """Return in a sentence what this machine has too little of; "" for an error, alone or among others, that says something else."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(out_of_resources, error.exceptions)), "")
    if isinstance(error, MemoryError) or any(
        words in str(error) for words in _SHORT_OF.get(type(error), ())
    ):
        return OUT_OF_MEMORY
    return _SHORTAGES.get(getattr(error, "errno", None) or 0, "")


# Python has no class of its own for "no thread", nor for a library that finds no room.
_SHORT_OF: dict[type[BaseException], tuple[str, ...]] = {
    RuntimeError: ("start new thread",),
    ImportError: ("failed to map segment", "annot allocate memory"),
}
_SHORTAGES = {
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENFILE: TOO_MANY_FILES,
}
