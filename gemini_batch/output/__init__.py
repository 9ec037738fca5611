"""The files of a run: what arrives, and the folder that keeps it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.output.folder import OutputFolder
    from gemini_batch.output.staging import StagedAnswer

# Imported on first use: a command needs few of them.
_MODULE_OF = {
    "OutputFolder": "folder",
    "StagedAnswer": "staging",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value
