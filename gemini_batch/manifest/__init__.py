"""The manifest, JSONL or a table of jobs: checked as a whole, then read again line by line."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gemini_batch.manifest.lines import MAX_LINE_BYTES

if TYPE_CHECKING:
    from gemini_batch.manifest.plain import PlainJobs
    from gemini_batch.manifest.reader import SHOWN_PROBLEMS, Manifest
    from gemini_batch.manifest.source import open_manifest

# Imported on first use: a command needs few of them.
_MODULE_OF = {
    "PlainJobs": "plain",
    "SHOWN_PROBLEMS": "reader",
    "Manifest": "reader",
    "open_manifest": "source",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value
