"""An asyncio batch engine for the Gemini image API: a manifest of prompts in, images and rows out.

::

    summary = await run([{"prompt": "A cute robot mascot"}], RunConfig(out="robots.out"))
    async for row in stream("jobs.jsonl"):
        row.open()                                  # a Pillow image
    read_results("robots.out").to_dataframe()       # the newest row of each call

`run(jobs, config)` sends what is not done yet and returns the `Summary`; `stream(jobs, config)`
yields each `Result` as soon as it is durable. Jobs are dicts, `Job`s or the path of a manifest.
Both work in any event loop, a notebook's included, and take `progress=True`. `read_results(out)`
reads an output folder. `StoppedError` is raised when a run was stopped by what waiting does not
fix; the other errors when nothing was sent. `help(gemini_batch.run)` has more, and so has each
other name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gemini_batch.version import __version__

if TYPE_CHECKING:
    from gemini_batch.api import run, stream
    from gemini_batch.config.run_config import RunConfig
    from gemini_batch.engine.summary import StoppedError, Summary
    from gemini_batch.errors import (
        ConfigError,
        FolderBusyError,
        GeminiBatchError,
        InputError,
        ManifestError,
        NoKeyError,
        StorageError,
    )
    from gemini_batch.output.results import Result, ResultImage, Results, read_results
    from gemini_batch.records.job import Job
    from gemini_batch.records.row import ResultRow
    from gemini_batch.records.status import Status

__all__ = [
    "ConfigError",
    "FolderBusyError",
    "GeminiBatchError",
    "InputError",
    "Job",
    "ManifestError",
    "NoKeyError",
    "Result",
    "ResultImage",
    "ResultRow",
    "Results",
    "RunConfig",
    "Status",
    "StoppedError",
    "StorageError",
    "Summary",
    "__version__",
    "read_results",
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
    "Status": "records.status",
    "Summary": "engine.summary",
    "StoppedError": "engine.summary",
    "Result": "output.results",
    "ResultImage": "output.results",
    "Results": "output.results",
    "read_results": "output.results",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
