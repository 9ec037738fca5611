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
"""

import re

LOCK = "lock"
ROWS = "rows"
MARKS = "marks"
PROBES = "probes"

_segment = re.compile(rf"{ROWS}/(\d+)/(\d+)\.jsonl").fullmatch
_snapshot = re.compile(rf"{ROWS}/(\d+)/all\.json").fullmatch


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
