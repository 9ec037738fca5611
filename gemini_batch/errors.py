"""Errors before or around a run, as exceptions that the user can act on.

An error of one call is a value and never raised: `gemini_batch.records.Failure`. So is the `Stop`
of a whole run.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import ClassVar, NamedTuple, Self


class ExitCode(IntEnum):
    """Exit code of the process: of several that apply, the first of 130, 143, 8, 6, 5, 4."""

    meaning: str
    """A text for help and README."""

    def __new__(cls, code: int, meaning: str) -> Self:
        """Create a code with its meaning."""
        made = int.__new__(cls, code)
        made._value_ = code
        made.meaning = meaning
        return made

    DONE = 0, "all done, or nothing to do"
    BUG = 1, "a bug of gemini_batch; its traceback is in the file that is named"
    USAGE = 2, "wrong command or flag; nothing was sent"
    BAD_INPUT = 3, "wrong manifest, tier, config or environment; nothing was sent"
    INCOMPLETE = (
        4,
        "some calls are failed, rejected, uncertain or held; verify: problems were found",
    )
    STOPPED = (
        5,
        (
            "stopped by the day's quota, budget, deadline or outage, or calls wait in batches: "
            "run again as the last line says"
        ),
    )
    REFUSED = (
        6,
        "no key, login, quota or billing, or the API refuses the key, the model or the region",
    )
    BUSY = 7, "another run holds the output folder"
    STORAGE = (
        8,
        "the disk failed or is full; a file of the output folder is damaged, gone or replaced",
    )
    INTERRUPTED = 130, "interrupted by Ctrl-C: run again to continue"
    TERMINATED = 143, "terminated by SIGTERM, or the terminal was closed: run again to continue"


class GeminiBatchError(Exception):
    """The base of every error that this package raises on purpose; its text is for the user."""

    exit_code: ClassVar[ExitCode]


class InputError(GeminiBatchError):
    """The user's input is wrong; nothing was sent."""

    exit_code = ExitCode.BAD_INPUT


class ConfigError(InputError):
    """A flag, a config file, a tier or the environment is wrong; nothing was sent."""


class FlagsError(ConfigError):
    """Two options exclude each other; nothing was sent."""

    exit_code = ExitCode.USAGE


class NoKeyError(ConfigError):
    """There is no API key; nothing was sent."""

    exit_code = ExitCode.REFUSED


class Problem(NamedTuple):
    """One problem of a manifest.

    Attributes:
        line: Line number, from 1; 0 for the file as a whole.
        field: The field's path in the line (`images[0]`), or `""` for the line as a whole.
    """

    line: int
    field: str
    message: str

    def text(self, source: str) -> str:
        """Return `source:line: field: message`, without the parts that do not apply."""
        where = f"{source}:{self.line}" if self.line else source
        return ": ".join(filter(None, (where, self.field, self.message)))


class ManifestError(InputError):
    """The manifest has problems; nothing was sent.

    `problems` are the first ones in the order of lines, those to show; `total` counts all.
    """

    def __init__(self, source: str, problems: Sequence[Problem], total: int | None = None) -> None:
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        self.total = len(self.problems) if total is None else total
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Return one text per problem, and a last one with the number of those not shown."""
        shown = [problem.text(self.source) for problem in self.problems]
        if hidden := self.total - len(shown):
            shown.append(f"{self.source}: and {hidden:,} more problems like these")
        return shown


class TemplateError(InputError):
    """A template or its variables have problems; nothing was written."""


class FolderBusyError(GeminiBatchError):
    """Another run holds the output folder."""

    exit_code = ExitCode.BUSY


class StorageError(GeminiBatchError):
    """The disk, or a file of the output folder, failed or can't be trusted."""

    exit_code = ExitCode.STORAGE


class LedgerError(StorageError):
    """The ledger that machines share can't be used now; nothing is sent without it."""

    exit_code = ExitCode.STOPPED


class RowsLostError(StorageError):
    """Calls would be paid for again, because rows of the output folder are gone."""


OUT_OF_MEMORY = (
    "this machine is out of memory or threads: "
    "send fewer calls at a time (--concurrency), or close other programs"
)
TOO_MANY_FILES = (
    "too many open files: raise the limit (ulimit -n), "
    "or send fewer calls at a time (--concurrency)"
)
_OUT_OF = {
    errno.ENOMEM: OUT_OF_MEMORY,
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENFILE: TOO_MANY_FILES,
}
# Python has no exception of its own for "no thread", for a library that can't be mapped, or for an
# import that finds no memory.
_OUT_OF_MEMORY_TEXTS: dict[type[BaseException], tuple[str, ...]] = {
    RuntimeError: ("start new thread",),
    ImportError: ("failed to map segment", "annot allocate memory"),
    SystemError: ("error return without exception set", "without setting an exception"),
}


def describe_os_error(error: OSError) -> str:
    """Return `file: reason`, without Python's own form of an OSError's text (`[Errno 2] …`)."""
    reason = error.strerror or str(error) or type(error).__name__
    file = error.filename
    return f"{file}: {reason}" if isinstance(file, str) and file else reason


@contextmanager
def storage_errors(message: str) -> Iterator[None]:
    """Raise an `OSError` of the block as a `StorageError`: the message, then the reason."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{message}: {describe_os_error(error)}") from error


def out_of_resources(error: BaseException) -> str:
    """Return a message if the machine is out of memory, threads or files, else ""."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(out_of_resources, error.exceptions)), "")
    texts = _OUT_OF_MEMORY_TEXTS.get(type(error), ())
    if isinstance(error, MemoryError) or any(text in str(error) for text in texts):
        return OUT_OF_MEMORY
    return _OUT_OF.get(getattr(error, "errno", None) or 0, "")
