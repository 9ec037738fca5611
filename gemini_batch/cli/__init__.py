"""The commands: arguments in, results on stdout, words on stderr, an exit code out."""

import os
import sys
from collections.abc import Sequence

from gemini_batch.cli.arguments import parser
from gemini_batch.errors import ExitCode, GeminiBatchError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no exception leaves it, and no traceback reaches the person.

    Args:
        argv: The arguments without the program's name; those of the process if None.
    """
    if os.name != "posix":
        return _fail(ExitCode.USAGE, "gemini_batch runs on Linux and macOS; on Windows, use it inside WSL")
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    options.argv = arguments
    try:
        return int(options.command(options))
    except GeminiBatchError as error:
        return _fail(error.exit_code, str(error))
    except KeyboardInterrupt:
        return _fail(ExitCode.INTERRUPTED, "interrupted; nothing was sent")
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # whoever read our output has gone: nobody to tell
        return ExitCode.DONE
    except Exception:  # noqa: BLE001 # the last resort: a bug becomes a sentence, and its traceback a file
        return _fail(ExitCode.BUG, f"a bug in gemini_batch; please report it with the file {_kept_traceback()}")


def _fail(code: ExitCode, message: str) -> int:
    for line in message.splitlines():
        print(f"gemini_batch: {line}", file=sys.stderr)  # noqa: T201 # words for the person
    return code


def _kept_traceback() -> str:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile(
        "w", prefix="gemini_batch-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exc(file=file)
        return file.name
