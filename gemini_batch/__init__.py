"""An asyncio batch engine for the Gemini image API: a manifest of prompts in, images and rows out.

`run` and `stream` are coroutines for any event loop, a notebook's included. The other names are
their values and errors.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gemini_batch.version import __version__

if TYPE_CHECKING:
    from gemini_batch.api import run, stream
    from gemini_batch.config.run_config import RunConfig
    from gemini_batch.engine.summary import Summary
    from gemini_batch.errors import (
        ConfigError,
        FolderBusyError,
        GeminiBatchError,
        InputError,
        ManifestError,
        NoKeyError,
        StorageError,
    )
    from gemini_batch.records.job import Job
    from gemini_batch.records.row import ResultRow, Status

__all__ = [
    "ConfigError",
    "FolderBusyError",
    "GeminiBatchError",
    "InputError",
    "Job",
    "ManifestError",
    "NoKeyError",
    "ResultRow",
    "RunConfig",
    "Status",
    "StorageError",
    "Summary",
    "__version__",
    "run",
    "stream",
]

# Imported on first use: `--help` needs none of them.
_MODULES = {
    "run": "api",
    "stream": "api",
    "RunConfig": "config.run_config",
    "Job": "records.job",
    "ResultRow": "records.row",
    "Status": "records.row",
    "Summary": "engine.summary",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
