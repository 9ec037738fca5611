"""The bucket of a run, as its options name it."""

from pathlib import Path

from gemini_batch.errors import ConfigError
from gemini_batch.store.address import BucketAddress, is_address


def address_of(out: Path | str | None) -> BucketAddress | None:
    """Return the address of a bucket that `--out` names; None for a folder.

    Raises:
        ConfigError: It is meant as an address, and is none.
    """
    if not isinstance(out, str) or not is_address(out):
        return None
    try:
        return BucketAddress.parse(out)
    except ValueError as error:
        raise ConfigError(f"--out: {error}") from error
