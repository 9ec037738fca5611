"""Note of the budget that a worker has joined, by which one that was deleted is noticed."""

from contextlib import suppress
from pathlib import Path

from gemini_batch.errors import storage_errors
from gemini_batch.output.files import write_atomically
from gemini_batch.output.paths import JOINED, PRIVATE
from gemini_batch.output.shards import parts


def note_joined(folder: Path, run_id: str) -> None:
    """Note in the folder of a worker that it has joined the budget of a run.

    Raises:
        StorageError: The disk refused.
    """
    path = folder / PRIVATE / JOINED
    with storage_errors(f"{path}: can't be written"):
        write_atomically(path, run_id.encode(), durable=True, mode=0o600)


def joined(out: Path, run_id: str) -> frozenset[str]:
    """Return the workers of an output folder that have joined the budget of a run."""
    found = set[str]()
    for part in parts(out):
        with suppress(OSError):
            if part.shard and (part.path / PRIVATE / JOINED).read_bytes() == run_id.encode():
                found.add(str(part.shard))
    return frozenset(found)
