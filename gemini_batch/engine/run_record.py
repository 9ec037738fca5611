"""Record of a run on the disk: `summary.json`, and its line in `runs.jsonl`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import storage_errors
from gemini_batch.output import OutputFolder
from gemini_batch.output.paths import RUNS, SUMMARY
from gemini_batch.output.runs import is_open, read_summary, run_line

RENEWED = (
    "exit_code",
    "needs_person",
    "stops",
    "left",
    "held",
    "stale",
    "by_status",
    "run_again_at",
    "ended_at",
)
"""Fields of `summary.json` that a run with nothing to send renews."""


@dataclass(eq=False)
class RunRecord:
    """The record of one run; a run that `sends` replaces the summary of the last one.

    Its methods raise `StorageError` if the disk refuses.
    """

    _folder: OutputFolder
    sends: bool
    _earlier: dict[str, Any] = field(default_factory=dict)

    def begin(self, summary: Summary) -> None:
        """Write the summary of a run that is in progress; list the last run if it was killed."""
        self._earlier = read_summary(self._folder.out)
        if is_open(self._earlier):
            self._list(self._earlier)
        if self.sends:
            self._write(asdict(summary) | {"exit_code": None, "ended_at": None})

    def end(self, summary: Summary) -> None:
        """Write the summary, and list the run."""
        fields = asdict(summary)
        was_killed = is_open(self._earlier)  # its numbers are not known
        if self.sends or was_killed or not isinstance(self._earlier.get("this_run"), dict):
            self._write(fields)
        else:
            self._write(self._earlier | {name: fields[name] for name in RENEWED})
        self._list(fields)

    def _write(self, fields: Mapping[str, Any]) -> None:
        options = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
        with storage_errors(f"{self._folder.out}: {SUMMARY} can't be written"):
            self._folder.write_summary(orjson.dumps(fields, option=options))

    def _list(self, fields: Mapping[str, Any]) -> None:
        with storage_errors(f"{self._folder.out}: {RUNS} can't be written"):
            self._folder.append_run(run_line(fields))
