"""The commands: arguments in, results on stdout, words on stderr, an exit code out."""

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from gemini_batch.cli import streams
from gemini_batch.cli.arguments import parser
from gemini_batch.errors import ExitCode, GeminiBatchError, describe_os_error, out_of_resources


def process() -> int:
    """Run the command of this process, whatever its locale and its standard streams are; return its exit code.

    A thread that hangs, over a name that nobody resolves, is not waited for: whoever pressed Ctrl-C again and again did not want to.
    """
    streams.speak_utf8()
    streams.settle()
    if strange := [argument for argument in sys.argv[1:] if not _is_text(argument)]:
        return _fail(ExitCode.USAGE, f"{strange[0]!a}: is not UTF-8; rename the file")
    try:
        code = main()
    except SystemExit as end:  # argparse: --help, or wrong usage
        code = end.code if isinstance(end.code, int) else ExitCode.USAGE
    if problem := streams.flush():
        code = _unwritten(problem)
        streams.flush()  # these words may have no room either
    if any(
        not thread.daemon
        for thread in threading.enumerate()
        if thread is not threading.main_thread()
    ):
        os._exit(code)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no exception leaves it, and no traceback reaches the person.

    Args:
        argv: The arguments without the program's name; those of the process if None.
    """
    if os.name != "posix":
        return _fail(
            ExitCode.USAGE, "gemini_batch runs on Linux and macOS; on Windows, use it inside WSL"
        )
    arguments = list(sys.argv[1:] if argv is None else argv)
    options, unknown = parser().parse_known_args(arguments)
    if unknown:
        options.parser.refuse(unknown)
    options.argv = arguments
    if getattr(options, "json", False):
        streams.print_utf8()
    is_json = getattr(options, "log_format", "text") == "json"
    try:
        return int(options.command(options))
    except GeminiBatchError as error:
        return _fail(error.exit_code, str(error), is_json=is_json)
    except KeyboardInterrupt:
        return _fail(ExitCode.INTERRUPTED, "interrupted; nothing was sent", is_json=is_json)
    except BrokenPipeError:
        return ExitCode.DONE  # whoever read our output has gone: nobody to tell
    except Exception as error:  # noqa: BLE001 # the last resort: a bug becomes a sentence, and its traceback a file
        return _unforeseen(error, is_json=is_json)


def _fail(code: ExitCode, message: str, *, is_json: bool = False) -> int:
    with suppress(OSError, MemoryError):  # nobody hears it: the exit code still says how it ended
        for line in message.split("\n"):
            words = _as_json(code, line) if is_json else f"gemini_batch: {_plain(line)}"
            print(words, file=sys.stderr, flush=True)  # noqa: T201 # words for the person
    return code


def _unforeseen(error: Exception, *, is_json: bool) -> int:
    if words := out_of_resources(error):
        return _fail(ExitCode.STORAGE, words, is_json=is_json)
    if not isinstance(error, OSError):
        return _bug(is_json=is_json)
    if problem := streams.flush():
        return _unwritten(problem)
    return (
        _fail(ExitCode.STORAGE, describe_os_error(error), is_json=is_json)
        if error.filename
        else _bug(is_json=is_json)
    )


def _plain(line: str) -> str:
    if line.isprintable():  # the rest is not imported for nothing: there may be no memory for it
        return line
    from gemini_batch.progress import plain

    return plain(line)


def _as_json(code: ExitCode, line: str) -> str:
    from gemini_batch.progress.json_log import error_line

    return error_line(code, line)


def _bug(*, is_json: bool) -> int:
    try:
        words = f"a bug in gemini_batch; please report it with the file {_kept_traceback()}"
    except (OSError, MemoryError) as error:
        if short := out_of_resources(
            error
        ):  # and so was the error itself, whatever the library that met it made of it
            return _fail(ExitCode.STORAGE, short, is_json=is_json)
        words = f"a bug in gemini_batch, whose traceback can't be kept: {getattr(error, 'strerror', error)}"
    return _fail(ExitCode.BUG, words, is_json=is_json)


def _unwritten(problem: OSError) -> int:
    return _fail(ExitCode.STORAGE, f"stdout: can't be written: {problem.strerror}")


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except (
        UnicodeEncodeError
    ):  # its bytes are another encoding's: they could be written into no JSON
        return False
    return True


def _kept_traceback() -> str:
    """Write the traceback into a file of its own, without the key: an error may quote an address that has it."""
    import tempfile
    import traceback
    from urllib.parse import quote

    from gemini_batch.config.environment import KEY_VARIABLES

    text = traceback.format_exc()
    for key in filter(None, (os.environ.get(name, "").strip() for name in KEY_VARIABLES)):
        for spelling in (key, quote(key, safe=""), quote(key)):
            text = text.replace(spelling, "[key]")
    with tempfile.NamedTemporaryFile(
        "w", prefix="gemini_batch-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        return file.name
