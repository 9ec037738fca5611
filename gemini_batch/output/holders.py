"""The runs that write into an output folder now, its workers included."""

from pathlib import Path

from gemini_batch.output.lock import holder
from gemini_batch.output.shards import parts


def running(out: Path) -> str | None:
    """Return what writes into a folder now, as for people; None if nothing does.

    Raises:
        OSError: The folder can't be read.
        StorageError: A link is in it.
    """
    workers = [part for part in parts(out) if part.shard is not None and part.path.is_dir()]
    if not workers:
        return holder(out)
    found = [(part, process) for part in workers if (process := holder(part.path)) is not None]
    if len(found) == 1:
        return f"worker {found[0][0].shard}, {found[0][1]}"
    return f"{len(found):,} workers" if found else None
