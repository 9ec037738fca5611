"""The live view of a run in a notebook: one output cell, updated in place."""

import html
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gemini_batch.engine.summary import Summary
from gemini_batch.progress.live_layout import rows_of
from gemini_batch.progress.run_state import Sample
from gemini_batch.progress.text_log import TextLog

MAX_LINES = 20
_COLUMNS, _ROWS = 100, 40


@dataclass(eq=False)
class NotebookView(TextLog):
    """Shows the rows of the live view below the last lines of the text log.

    `_lines` are those that the log writes.
    """

    every_s: ClassVar[float] = 1.0

    _lines: deque[str] = field(default_factory=deque)
    _cell: Any = None

    def update(self, sample: Sample) -> None:
        """Count a sample, and paint."""
        self._run_state.update(sample)
        clock = self._info.clock
        snapshot = self._run_state.snapshot(clock.steady_s(), clock.utc())
        self._paint(*(row.plain for row in rows_of(self._info.name, snapshot, _COLUMNS, _ROWS)))

    def end(self, summary: Summary) -> None:
        """Show the result instead of the rows."""
        super().end(summary)
        self._paint()

    def _paint(self, *rows: str) -> None:
        from IPython.display import display  # of the notebook

        text = "\n".join([*self._lines, *rows])
        data = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
        if self._cell is None:
            self._cell = display(data, raw=True, display_id=True)
        else:
            self._cell.update(data, raw=True)
