"""The lines at the bottom of a terminal that are repainted in place. Pure: returns what to write.

`rich.live.Live` does not fit: it takes back one row per line after a resize, paints over what a
shell wrote while the process was stopped, and holds a lock during a write that may block.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

_ERASE_BELOW = "\x1b[J"


# A line on the screen: its text with colours, and its width in cells.
Row: TypeAlias = tuple[str, int]


class Region:
    """Rows below all other output, until the next frame or `forget`.

    Each frame is a single write, so no terminal shows half of it. The cursor rests in the first
    column of the last row, where an echoed `^C` does no harm. A terminal that became narrower has
    wrapped the rows again, so more of them are erased than were written.
    """

    def __init__(self) -> None:
        self._rows: tuple[Row, ...] = ()

    def frame(self, above: str, rows: Sequence[Row], columns: int) -> str:
        """Return the text that writes the lines above and replaces the rows; "" for no change.

        Args:
            above: Complete lines that stay.
            rows: Each narrower than the terminal.
            columns: The current width of the terminal.
        """
        rows = tuple(rows)
        if not above and rows == self._rows:
            return ""
        erased = ""
        if self._rows:
            up = sum(max(1, math.ceil(cells / max(1, columns))) for _, cells in self._rows[:-1])
            erased = "\r" + (f"\x1b[{up}A" if up else "") + _ERASE_BELOW
        self._rows = rows
        return erased + above + "\n".join(text for text, _ in rows) + ("\r" if rows else "")

    def forget(self) -> None:
        """Start again below the current content of the screen."""
        self._rows = ()
