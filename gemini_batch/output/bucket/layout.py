"""Names of the objects of an output folder in a bucket. No other module spells them.

::

    PREFIX/images/…                      the image of each call, with its row in the object's notes
    PREFIX/drafts/…, superseded/…        as in a folder
    PREFIX/rows/EPOCH/NUMBER.jsonl       a segment of rows, created once; EPOCH is the lease's
    PREFIX/rows/EPOCH/all.jsonl.gz       a snapshot: all rows until then
    PREFIX/rows/EPOCH/all.json           the segments that are in the snapshot
    PREFIX/marks/TIME-RANDOM.jsonl       marks of the review
    PREFIX/summary.json, runs.jsonl      as in a folder, when a run has ended
    PREFIX/lock                          the lease
    PREFIX/generations/0002              the number of workers of generation 2, created once
    PREFIX/generations/0002.ready        there once no older generation can write
    PREFIX/generations/0002.counted-by   the ledger of its workers, which must be one
    PREFIX/generations/lock              the lease of a worker that begins a generation
    PREFIX/shards/0002.4/00003/…         all of the above, of worker 3; see `output.shards`
"""

import re

LOCK = "lock"
ROWS = "rows"
MARKS = "marks"
PROBES = "probes"
GENERATIONS = "generations"

_segment = re.compile(rf"{ROWS}/(\d+)/(\d+)\.jsonl").fullmatch
_snapshot = re.compile(rf"{ROWS}/(\d+)/all\.json").fullmatch
_generation = re.compile(rf"{GENERATIONS}/(\d{{4,9}})(\.ready)?").fullmatch


def segment(epoch: int, number: int) -> str:
    """Return the name of a segment of rows."""
    return f"{ROWS}/{epoch:06}/{number:08}.jsonl"


def parsed_segment(name: str) -> tuple[int, int] | None:
    """Return epoch and number of a segment; None for another name."""
    found = _segment(name)
    return (int(found[1]), int(found[2])) if found else None


def mark(at_ns: int, letters: str) -> str:
    """Return the name of a mark."""
    return f"{MARKS}/{at_ns:020}-{letters}.jsonl"


def snapshot(epoch: int) -> str:
    """Return the name of a snapshot of all rows."""
    return f"{ROWS}/{epoch:06}/all.jsonl.gz"


def snapshot_index(epoch: int) -> str:
    """Return the name of the list of what is in a snapshot."""
    return f"{ROWS}/{epoch:06}/all.json"


def parsed_snapshot_index(name: str) -> int | None:
    """Return the epoch of a snapshot's list; None for another name."""
    found = _snapshot(name)
    return int(found[1]) if found else None


def generation(number: int) -> str:
    """Return the name of the object that begins a generation of workers."""
    return f"{GENERATIONS}/{number:04}"


def ready(number: int) -> str:
    """Return the name of the mark of a generation next to which nothing older is left."""
    return f"{generation(number)}.ready"


def counted_by(number: int) -> str:
    """Return the name of the note of a generation's ledger."""
    return f"{generation(number)}.counted-by"


def parsed_generation(name: str) -> tuple[int, bool] | None:
    """Return (number, whether the name is that of its mark) of a generation; None for another."""
    found = _generation(name)
    return (int(found[1]), found[2] is not None) if found else None
