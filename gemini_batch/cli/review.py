"""`review`: open the gallery from a local server, to mark its pictures."""

import asyncio
import sys
import webbrowser
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

from gemini_batch.cli.viewing import copied
from gemini_batch.errors import ConfigError, ExitCode, describe_os_error
from gemini_batch.output.marks import Marks


def main(options: Namespace) -> int:
    """Serve the review until Ctrl-C; return the exit code."""
    out, view = copied(options)
    marks = None
    if view is not None:
        from gemini_batch.output.bucket.marks import BucketMarks

        marks = BucketMarks(out, view.store)
    with suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(_serve(out, options.port or 0, marks, opens=not options.no_browser))
    return ExitCode.DONE


async def _serve(out: Path, port: int, marks: Marks | None, *, opens: bool) -> None:
    from gemini_batch.gallery.review.server import ReviewServer

    server = ReviewServer(out, port, marks)
    try:
        async with server.running():
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            sys.stderr.write("reviewing; marks are saved at once; Ctrl-C ends it\n")
            if opens:
                await asyncio.to_thread(webbrowser.open, server.url)
            await asyncio.Event().wait()
    except OSError as error:
        raise ConfigError(f"--port: {port}: {describe_os_error(error)}") from error
