"""The lines at the bottom of a terminal that are painted over in place, whatever its size becomes. Pure: it returns what to write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_ERASE_BELOW = "\x1b[J"


@dataclass(frozen=True, slots=True)
class Row:
    """One line on the screen: the text with its colours, and how many cells it takes."""

    text: str
    cells: int


class Region:
    """Rows that stand below everything that was said, until the next frame or `forget`.

    Each frame is one write, so that no terminal shows half of it. The cursor rests in the first column of the last row, where a
    terminal that echoes `^C` does no harm. A terminal that is made narrower breaks its lines anew, and so more of them are taken
    back than were written.
    """

    def __init__(self) -> None:
        self._rows: tuple[Row, ...] = ()

    def frame(self, above: str, rows: Sequence[Row], columns: int) -> str:
        """Return what puts `above`, whole lines that stay, and then the rows in place of those before; "" for no change.

        Args:
            above: Whole lines.
            rows: Each of fewer cells than there are columns.
            columns: Of the terminal, now.
        """
        rows = tuple(rows)
        if not above and rows == self._rows:
            return ""
        erased = self._erased(columns)
        self._rows = rows
        return erased + above + "\n".join(row.text for row in rows) + ("\r" if rows else "")

    def forget(self) -> None:
        """Begin anew below whatever is on the screen now."""
        self._rows = ()

    def _erased(self, columns: int) -> str:
        if not self._rows:
            return ""
        up = sum(max(1, math.ceil(row.cells / max(1, columns))) for row in self._rows[:-1])
        return "\r" + (f"\x1b[{up}A" if up else "") + _ERASE_BELOW
