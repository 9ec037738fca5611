"""Choice of the faults of files and batches: markers, rules and rates; all that apply are used.

A marker is in a display name, or in the prompt of a line: `A robot [[fault:create-503-after x1]]`
holds for the batch that has the line.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.batch_faults import (
    BATCH_FAULTS,
    At,
    is_batch_fault,
    parse_batch_faults,
)
from gemini_batch.simulator.markers import Marker, markers_in
from gemini_batch.simulator.rules import Rule

# Faults by name, with their seconds.
Drawn: TypeAlias = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class PlacedMarker:
    """A marker and the text that has it: the same marker of the same text is counted as one."""

    text: str
    place: int
    marker: Marker


def batch_markers(text: str) -> Iterator[PlacedMarker]:
    """Yield the markers of a text that name faults of files and batches.

    Raises:
        ConfigError: A marker has an unknown name, or an invalid time or count.
    """
    for place, marker in enumerate(markers_in(text)):
        if is_batch_fault(marker.faults):
            for _ in parse_batch_faults(marker.faults):
                pass  # valid
            yield PlacedMarker(text, place, marker)


class BatchSchedule:
    """Chooses the faults at each place of the protocol."""

    def __init__(self, seed: int, rates: Mapping[str, float], rules: list[Rule]) -> None:
        """Validate every name and number.

        Raises:
            ConfigError: A fault is unknown, or a rate is not between 0 and 1.
        """
        for name, rate in rates.items():
            if type(rate) not in (int, float) or not 0 <= rate <= 1:
                raise ConfigError(f"rate of {name}: got {rate!r}; allowed: a share from 0 to 1")
        self._seed = seed
        self._rates = {name: (dict(parse_batch_faults(name)), rates[name]) for name in rates}
        self._rules = [(dict(parse_batch_faults(rule.fault)), rule) for rule in rules]
        self._marked: Counter[tuple[str, int, At]] = Counter()
        self._asked: Counter[tuple[str, str]] = Counter()

    def draw(
        self,
        at: At,
        text: str,
        *,
        model: str = "",
        offset_s: float = 0.0,
        markers: Iterable[PlacedMarker] = (),
    ) -> Drawn:
        """Return the faults at one place.

        Args:
            at: The place.
            text: What the rules search, and what the rates are drawn from.
            model: The model's id.
            offset_s: Seconds since the start.
            markers: Markers that hold here.
        """
        drawn: Drawn = {}
        for placed in markers:
            here = _at(at, dict(parse_batch_faults(placed.marker.faults)))
            used = placed.text, placed.place, at
            if here and (placed.marker.times is None or self._marked[used] < placed.marker.times):
                self._marked[used] += 1
                drawn |= here
        for faults, rule in self._rules:
            here = _at(at, faults)
            if here and rule.applies(text, model, offset_s):
                drawn |= here
        for name, (faults, rate) in self._rates.items():
            here = _at(at, faults)
            if here and self._point(name, text) < rate:
                drawn |= here
        return drawn

    def _point(self, name: str, text: str) -> float:
        """Return a number from 0 to 1, of the seed and the times that this was asked."""
        self._asked[name, text] += 1
        return random.Random(f"{self._seed}/{name}/{text}/{self._asked[name, text]}").random()


def _at(at: At, faults: Drawn) -> Drawn:
    return {name: seconds for name, seconds in faults.items() if BATCH_FAULTS[name].at is at}
