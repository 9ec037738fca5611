"""Places of the results in a result file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gemini_batch.simulator.batch.lines import Line


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line of a result file: the request that it answers, and the key that it names."""

    line: Line
    key: str | None
    is_torn: bool = False


def output_lines(lines: Sequence[Line]) -> list[OutputLine]:
    """Return the results of requests in order, but for the faults of single lines."""
    placed: list[OutputLine] = []
    swapped: int | None = None  # place of a result that takes the next one's key
    for line in lines:
        if "lost-key" in line.placed:
            continue
        made = OutputLine(line, line.key, "torn-line" in line.placed)
        if "no-key" in line.placed:
            made = replace(made, key=None)
        if "unknown-key" in line.placed:
            made = replace(made, key=f"unknown-{line.number}")
        if swapped is not None:
            other = placed[swapped]
            placed[swapped], made = replace(other, key=made.key), replace(made, key=other.key)
            swapped = None
        elif "swapped-keys" in line.placed:
            swapped = len(placed)
        placed += [made] * (2 if "duplicate-key" in line.placed else 1)
    return placed
