"""The manifest that the arguments name: a file, or standard input, which is copied to one."""

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gemini_batch.cli.options import STDIN
from gemini_batch.errors import ConfigError, storage_errors

TERMINAL = "/dev/tty"  # of this process, also where no stream leads to it
_NAME = "stdin"
_TABLES = (".csv", ".tsv", ".tab")


class Given(NamedTuple):
    """A manifest on the disk.

    Attributes:
        name: In messages and in the summary.
        base: Where relative paths of images start.
    """

    path: Path
    name: str
    base: Path


@contextmanager
def given_manifest(options: Namespace) -> Iterator[Given]:
    """Yield the manifest; standard input, or a file of another `--format`, is copied first.

    Raises:
        StorageError: There is no space for the copy.
    """
    if isinstance(options.manifest, str):
        with _fetched(options.manifest) as given:
            yield given
        return
    path, is_stdin = options.manifest, options.manifest == STDIN
    is_as_named = options.format is None or (options.format != "jsonl") == (
        path.suffix.lower() in _TABLES
    )
    if not is_stdin and (is_as_named or not path.is_file()):
        yield Given(path, str(path), path.parent)
        return
    import shutil
    import tempfile

    name = _NAME if is_stdin else str(path)
    problem = f"{name}: can't be copied; make space for temporary files, or set TMPDIR"
    with tempfile.TemporaryDirectory(prefix="gemini_batch-") as folder:
        copy = Path(folder, f"manifest.{options.format or 'jsonl'}")
        with storage_errors(problem), copy.open("wb") as file:
            if is_stdin:
                shutil.copyfileobj(sys.stdin.buffer, file)
                _read_terminal()
            else:
                shutil.copyfile(path, copy)
        yield Given(copy, name, Path() if is_stdin else path.parent)


@contextmanager
def _fetched(url: str) -> Iterator[Given]:
    """Yield a copy of a manifest in a bucket; relative paths of images start here.

    Raises:
        ConfigError: There is no such object.
        StorageError: The bucket can't be used, or there is no space for the copy.
    """
    import tempfile

    from gemini_batch.store.address import BucketAddress
    from gemini_batch.store.base import NoObjectError
    from gemini_batch.store.opening import open_store

    address = BucketAddress.parse(url)
    problem = f"{url}: can't be copied; make space for temporary files, or set TMPDIR"
    with tempfile.TemporaryDirectory(prefix="gemini_batch-") as folder:
        copy = Path(folder, address.name or "manifest.jsonl")
        with storage_errors(problem), copy.open("wb") as file:
            try:
                file.writelines(open_store(address.parent).read(address.name))
            except NoObjectError as error:
                raise ConfigError(f"{url}: there is no such object") from error
        yield Given(copy, url, Path())


def _read_terminal() -> None:
    """Read from the terminal, if there is one, where standard input was: a run may ask there."""
    if sys.stderr.isatty() and not sys.stdin.isatty():
        with suppress(OSError):
            terminal = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
            os.dup2(terminal, sys.stdin.fileno())
            os.close(terminal)
