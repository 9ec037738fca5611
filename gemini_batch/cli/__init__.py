"""The command line: arguments in, results on stdout, messages on stderr, an exit code out."""

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Never

from gemini_batch.cli import streams
from gemini_batch.cli.arguments import parser
from gemini_batch.errors import (
    ExitCode,
    GeminiBatchError,
    StorageError,
    describe_os_error,
    out_of_resources,
)

_FAILED_DISK = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT}


class TerminatedError(KeyboardInterrupt):
    """SIGTERM came before a run had handlers of its own, or to a command without them."""


def process() -> int:
    """Run the command of this process in any locale and with any streams; return its exit code.

    A thread that hangs, as in a name lookup, is not waited for.
    """
    # A start makes 50,000 objects that stay; looking at them again and again takes 5 % of its time.
    gc.set_threshold(50_000, 20, 20)
    streams.ensure_utf8_mode()
    streams.open_missing_streams()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
    for argument in sys.argv[1:]:
        if argument.encode(errors="ignore").decode() != argument:  # JSON cannot hold it
            return _fail(ExitCode.USAGE, f"{argument!a}: is not UTF-8; rename the file")
    try:
        code = main()
    except SystemExit as end:  # argparse: --help, or wrong usage
        code = end.code if isinstance(end.code, int) else ExitCode.USAGE
    try:
        streams.flush(sys.stdout)
    except StorageError as error:
        code = _fail(error.exit_code, str(error))
    streams.flush(sys.stderr)
    if _has_threads():
        os._exit(code)
    return code


def _terminate(*_signal: object) -> Never:
    raise TerminatedError


def _has_threads() -> bool:
    """Return whether another thread keeps this process alive."""
    if (threading := sys.modules.get("threading")) is None:
        return False
    main_thread = threading.main_thread()
    return any(not each.daemon for each in threading.enumerate() if each is not main_thread)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; no exception leaves it, and no traceback is shown.

    Args:
        argv: The arguments without the program's name; those of the process if None.
    """
    if os.name != "posix":
        text = "gemini_batch runs on Linux and macOS; on Windows, use it inside WSL"
        return _fail(ExitCode.USAGE, text)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    is_json = False
    try:
        options, unknown = parser(arguments).parse_known_args(arguments)
        if unknown:
            options.parser.refuse(unknown)
        options.argv = arguments
        if getattr(options, "json", False):
            streams.print_utf8()
        is_json = getattr(options, "log_format", "text") == "json"
        return int(options.command(options))
    except GeminiBatchError as error:
        return _fail(error.exit_code, str(error), is_json=is_json)
    except KeyboardInterrupt as end:
        return _fail(*_interrupted(end), is_json=is_json)
    except BrokenPipeError:
        return ExitCode.DONE  # the reader of our output has gone
    except Exception as error:  # noqa: BLE001 # a bug becomes a message, and its traceback a file
        return _fail(*_unexpected(error), is_json=is_json)


def _fail(code: ExitCode, message: str, *, is_json: bool = False) -> int:
    with suppress(OSError, MemoryError):  # the exit code still reports the end
        for line in message.split("\n"):
            text = f"gemini-batch: {line}"
            if is_json:
                from gemini_batch.progress.json_log import error_line

                text = error_line(code, line)
            elif not line.isprintable():  # else the import, which takes memory, is not needed
                from gemini_batch.progress.formatting import plain

                text = plain(text)
            print(text, file=sys.stderr, flush=True)  # noqa: T201 # messages for the user
    return code


def _interrupted(end: KeyboardInterrupt) -> tuple[ExitCode, str]:
    if isinstance(end, TerminatedError):
        return ExitCode.TERMINATED, "ended by SIGTERM; nothing was sent"
    return ExitCode.INTERRUPTED, "interrupted; nothing was sent"


def _unexpected(error: Exception) -> tuple[ExitCode, str]:
    """Return the exit code and the message of a shortage, an error of a file, or a bug."""
    if shortage := out_of_resources(error):
        return ExitCode.STORAGE, shortage
    if isinstance(error, OSError) and error.filename:
        return ExitCode.STORAGE, describe_os_error(error)
    if isinstance(error, OSError) and error.errno in _FAILED_DISK:  # of an open file
        reason = os.strerror(error.errno)
        return ExitCode.STORAGE, f"a file can't be read or written: {reason}; check the disk"
    try:
        file = _saved_traceback()
    except (OSError, MemoryError) as unsaved:
        # Then the bug itself may be a shortage that a library reported as another error.
        if shortage := out_of_resources(unsaved):
            return ExitCode.STORAGE, shortage
        why = getattr(unsaved, "strerror", unsaved)
        return ExitCode.BUG, f"a bug in gemini_batch; its traceback can't be saved: {why}"
    return ExitCode.BUG, f"a bug in gemini_batch; please report it with the file {file}"


def _saved_traceback() -> str:
    """Write the traceback to a file, without the keys, tokens and passwords that it may quote."""
    import tempfile
    import traceback
    from urllib.parse import quote

    from gemini_batch.client.redaction import KeyRedactor
    from gemini_batch.config import google_login
    from gemini_batch.config.keys import known_keys
    from gemini_batch.config.ledger_url import known_passwords
    from gemini_batch.config.network import proxy_passwords
    from gemini_batch.store import secrets as store_secrets

    text = traceback.format_exc()
    logins = (*google_login.known_secrets(), *store_secrets.known_secrets())
    secrets = (*known_keys(), *logins, *proxy_passwords(), *known_passwords())
    for key in secrets:
        for spelling in (key, quote(key, safe=""), quote(key)):
            text = text.replace(spelling, "[key]")
        text = KeyRedactor(key).redact_text(text)
    with tempfile.NamedTemporaryFile(
        "w", prefix="gemini_batch-bug-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.write(text)
        return file.name
