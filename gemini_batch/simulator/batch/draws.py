"""The faults that hold at each place of the protocol, counted in the audit."""

from collections.abc import Callable, Iterable

from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.batch_schedule import BatchSchedule, Drawn, PlacedMarker, batch_markers


class Draws:
    """Asks the schedule, at the time of the request."""

    def __init__(
        self,
        schedule: BatchSchedule,
        offset_s: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        """Use a schedule.

        Args:
            schedule: Chooses the faults.
            offset_s: Returns the seconds since the start.
            count: Counts a fault that is applied.
        """
        self._schedule = schedule
        self._offset_s = offset_s
        self._count = count

    def draw(
        self, at: At, text: str, *, model: str = "", markers: Iterable[PlacedMarker] = ()
    ) -> Drawn:
        """Return the faults at a place; see `BatchSchedule.draw`.

        Raises:
            ConfigError: A marker in `text` has an unknown name, or an invalid time or count.
        """
        drawn = self._schedule.draw(
            at,
            text,
            model=model,
            offset_s=self._offset_s(),
            markers=[*batch_markers(text), *markers],
        )
        for name in drawn:
            self._count(name)
        return drawn
