"""Folders that a run works in: its output folder, or the scratch folder of a bucket."""

import hashlib
from pathlib import Path

from gemini_batch.config.bucket import address_of
from gemini_batch.store.address import BucketAddress

_SCRATCH = "scratch"


def output_folder(manifest: Path, *, is_simulated: bool) -> Path:
    """Return the default output folder: next to the manifest, never the current folder."""
    return manifest.parent / f"{manifest.stem}.{'simulated' if is_simulated else 'out'}"


def working_folder(
    out: Path | str | None, scratch: Path | str | None, manifest: Path, *, is_simulated: bool
) -> Path:
    """Return the folder that a run works in: its output folder, or the scratch folder of a bucket.

    Raises:
        ConfigError: `out` is meant as the address of a bucket, and is none.
    """
    if (address := address_of(out)) is not None:
        return Path(scratch) if scratch else scratch_folder(address)
    return Path(out) if out else output_folder(manifest, is_simulated=is_simulated)


def scratch_folder(address: BucketAddress) -> Path:
    """Return the default scratch folder of a bucket: in the user's state folder.

    Raises:
        ConfigError: There is no such folder.
    """
    from gemini_batch.quota.storage import state_path  # few runs have a bucket

    name = hashlib.sha256(str(address).encode()).hexdigest()[:16]
    return state_path().parent / _SCRATCH / name
