"""The output folder that a command reads: on the disk, or in a bucket."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.errors import ConfigError, storage_errors
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.shards import has_results
from gemini_batch.output.viewed import ViewedFolder

if TYPE_CHECKING:  # few commands read one
    from gemini_batch.output.bucket.viewed import BucketFolder
    from gemini_batch.store.base import ImageStore

_NO_SPACE = "there is no space for a copy of its rows; set TMPDIR"


@contextmanager
def viewed(out: Path | str, *, may_be_new: bool = False) -> Iterator[ViewedFolder]:
    """Yield an output folder, or a bucket, whose rows are in a temporary folder meanwhile.

    Raises:
        ConfigError: It has no rows, unless it may be new.
        StorageError: The bucket can't be read.
    """
    if isinstance(out, Path):
        yield ViewedFolder(out if may_be_new else checked_folder(out))
        return
    import tempfile

    from gemini_batch.output.bucket.viewed import BucketFolder

    store = store_of(out)
    with storage_errors(f"{out}: {_NO_SPACE}"):
        folder = tempfile.TemporaryDirectory(prefix="gemini_batch-")
    with folder as name:
        with storage_errors(f"{out}: {_NO_SPACE}"):
            view = BucketFolder(store, Path(name), may_be_new=may_be_new)
        yield view


def copied(options: Namespace) -> "tuple[Path, BucketFolder | None]":
    """Return an output folder; of a bucket a copy with its images, next to where this is called.

    The copy is renewed each time; only images that it does not have are fetched.

    Raises:
        ConfigError: It has no rows, or the folder of the copy is something else.
        StorageError: The bucket can't be read, or the copy can't be written.
    """
    if isinstance(options.out, Path):
        return checked_folder(options.out), None
    from gemini_batch.output.bucket.viewed import BucketFolder
    from gemini_batch.store.address import BucketAddress

    address = BucketAddress.parse(options.out)
    folder = Path(f"{address.name or address.bucket}.copy")
    mark = folder / "COPY"
    if folder.exists() and not (mark.is_file() and mark.read_text("utf-8") == options.out):
        raise ConfigError(
            f"{folder}: is not a copy of {options.out}, which would be written there; move it away"
        )
    with storage_errors(f"{folder}: can't be written"):
        folder.mkdir(exist_ok=True)
        mark.write_text(options.out, "utf-8")
        view = BucketFolder(store_of(options.out), folder)
        view.copy_images()
    return folder, view


def checked_folder(out: Path) -> Path:
    """Return a folder that has rows.

    Raises:
        ConfigError: It has none.
    """
    if not has_results(out):
        hint = "name the output folder of a run, such as jobs.out"
        raise ConfigError(f"{out}: has no {RESULTS}; {hint}")
    return out


def store_of(out: str) -> "ImageStore":
    """Return the store at an address that was parsed before."""
    from gemini_batch.store.address import BucketAddress
    from gemini_batch.store.opening import open_store

    return open_store(BucketAddress.parse(out))
