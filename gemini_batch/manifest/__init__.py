"""The manifest, JSONL or a table of jobs: checked as a whole, then read again line by line."""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use
from gemini_batch.manifest.lines import MAX_LINE_BYTES

if TYPE_CHECKING:
    from gemini_batch.manifest.plain import PlainJobs
    from gemini_batch.manifest.reader import SHOWN_PROBLEMS, Manifest
    from gemini_batch.manifest.source import open_manifest

__getattr__ = on_first_use(
    __name__,
    {
        "PlainJobs": "plain",
        "SHOWN_PROBLEMS": "reader",
        "Manifest": "reader",
        "open_manifest": "source",
    },
)
