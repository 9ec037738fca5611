"""An asyncio batch engine for the Gemini image API: a manifest of prompts in, images and rows out.

::

    summary = await run([{"prompt": "A cute robot mascot"}], RunConfig(out="robots.out"))
    async for row in stream("jobs.jsonl"):
        row.open()                                  # a Pillow image
    read_results("robots.out").to_dataframe()       # the newest row of each call

`run` and `stream` send what is not done yet, in any event loop, a notebook's included; jobs are
dicts, `Job`s or the path of a manifest. `read_results` reads an output folder, also during a run.

    Job            one job, with the fields of a manifest line
    RunConfig      the options of a run, with the names of the flags
    Summary        what a run did, why it stopped, and its exit code; what `run` returns
    Result         a row of a call and its images, as `stream` and `read_results` give it
    ResultImage    an image of it: `path` in the output folder, `file` as an absolute path, `open()`
    Results        the list of `read_results`, with `to_dataframe()`
    ResultRow      a line of `results.jsonl`
    Status         how a call ended: succeeded, blocked, rejected, failed …

    GeminiBatchError       the base of all errors
      StoppedError         the run was stopped by what waiting does not fix; has its `summary`
      ManifestError        jobs are wrong; nothing was sent
      ConfigError          an option or the environment is wrong; nothing was sent
        NoKeyError         there is no key
      FolderBusyError      another run holds the output folder
      StorageError         the disk failed, or what is in the output folder is damaged
      InputError           the base of ManifestError and ConfigError

`help(gemini_batch.Job)` and so on have more.
"""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use
from gemini_batch.version import __version__

if TYPE_CHECKING:  # "as" makes a name public for type checkers
    from gemini_batch.api import run as run
    from gemini_batch.api import stream as stream
    from gemini_batch.config.run_config import RunConfig as RunConfig
    from gemini_batch.engine.summary import StoppedError as StoppedError
    from gemini_batch.engine.summary import Summary as Summary
    from gemini_batch.errors import ConfigError as ConfigError
    from gemini_batch.errors import FolderBusyError as FolderBusyError
    from gemini_batch.errors import GeminiBatchError as GeminiBatchError
    from gemini_batch.errors import InputError as InputError
    from gemini_batch.errors import ManifestError as ManifestError
    from gemini_batch.errors import NoKeyError as NoKeyError
    from gemini_batch.errors import StorageError as StorageError
    from gemini_batch.output.results import Result as Result
    from gemini_batch.output.results import ResultImage as ResultImage
    from gemini_batch.output.results import Results as Results
    from gemini_batch.output.results import read_results as read_results
    from gemini_batch.records.job import Job as Job
    from gemini_batch.records.row import ResultRow as ResultRow
    from gemini_batch.records.status import Status as Status

# What `help` shows on the page; the classes are in its text, and have 2,900 lines of their own.
__all__ = ["__version__", "read_results", "run", "stream"]

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
    "ConfigError": "errors",
    "FolderBusyError": "errors",
    "GeminiBatchError": "errors",
    "InputError": "errors",
    "ManifestError": "errors",
    "NoKeyError": "errors",
    "StorageError": "errors",
}


__getattr__ = on_first_use(__name__, _MODULES)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
