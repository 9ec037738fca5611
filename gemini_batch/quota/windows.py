"""One limit over a span that slides with time. Pure."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Window:
    """The weight in each slot of the last span, and from which slot on there is room for more.

    A reservation fits slot k when the span + guard slots before k, and k itself with the
    reservation, hold at most the limit. Two weights that are not counted together then leave at
    least span + guard slots apart, so any interval as long as the span holds at most the limit
    where they arrive, though one may take up to the guard longer on its way than another.

    Time is a whole number, the model's slot: slots of different windows compare without rounding.
    Reservations never go back in time, so the oldest slots are dropped as they pass out of reach of
    now, and each operation is O(1) amortised where nothing is reserved far ahead.

    Attributes:
        limit: The most weight in any interval as long as the span. None: only counted.
        span: Its length, in own slots.
        stride: How many of the model's slots make one slot of this window.
        total: All weight that is not forgotten.
        entries: [own slot, weight], ascending and sparse.
    """

    limit: int | None
    span: int
    stride: int = 1
    total: int = 0
    entries: deque[list[int]] = field(default_factory=deque)

    def earliest(self, weight: int, slot: int, guard: int) -> int:
        """Return the first of the model's slots, `slot` or later, that has room for `weight`.

        `weight` is at most the limit, and `slot` is not before the last reservation. Like every
        guard, `guard` is in the model's slots.
        """
        if self.limit is None or not weight:
            return slot
        reach = self.reach(guard)
        own, total = slot // self.stride, self.total
        for used_slot, used in self.entries:
            if own <= used_slot + reach:
                if total + weight <= self.limit:
                    break
                own = used_slot + reach + 1
            total -= used
        return max(slot, own * self.stride)

    def used(self, slot: int, guard: int) -> int:
        """Return the weight that counts against a reservation in the model's slot `slot`."""
        horizon = slot // self.stride - self.reach(guard)
        total = self.total
        for used_slot, used in self.entries:
            if used_slot >= horizon:
                break
            total -= used
        return total

    def frees(self, guard: int) -> int:
        """Return the first of the model's slots at which all that is counted is free; 0 if none."""
        last = max((slot for slot, weight in self.entries if weight), default=None)
        return 0 if last is None else (last + self.reach(guard) + 1) * self.stride

    def add(self, weight: int, slot: int) -> None:
        """Count `weight` in the model's slot `slot`, which is not before the last one."""
        own = slot // self.stride
        if self.entries and self.entries[-1][0] >= own:  # later by one after a shift
            self.entries[-1][1] += weight
        else:
            self.entries.append([own, weight])  # a weight of 0 too: it may be corrected upwards
        self.total += weight

    def correct(self, change: int, slot: int) -> None:
        """Correct the weight of the model's slot `slot`; a slot out of reach is left alone.

        A correction upwards may pass the limit; later reservations wait for it.
        """
        own = slot // self.stride
        for entry in reversed(self.entries):
            if entry[0] == own:
                change = max(change, -entry[1])
                entry[1] += change
                self.total += change
            if entry[0] <= own:
                return

    def shift(self, slots: int, latest: int) -> None:
        """Move all by `slots` of the model, but none later than `latest`.

        Both are rounded to the later slot of this window.
        """
        own, most = -(-slots // self.stride), -(-latest // self.stride)
        for entry in self.entries:
            entry[0] = min(entry[0] + own, most)

    def dump(self) -> list[int]:
        """Return slot, weight, slot, weight, … as plain numbers."""
        return [number for entry in self.entries for number in entry]

    def load(self, numbers: Iterable[int]) -> None:
        """Restore what `dump` returned; the limit may differ, the span may not."""
        flat = iter(numbers)
        self.entries = deque([slot, weight] for slot, weight in zip(flat, flat, strict=True))
        self.total = sum(weight for _, weight in self.entries)

    def reach(self, guard: int) -> int:
        """Return how many slots of this window before one count against it."""
        return self.span - (-guard // self.stride)

    def forget(self, slot: int, guard: int) -> None:
        """Drop what does not count against the model's slot `slot` or a later one."""
        horizon = slot // self.stride - self.reach(guard)
        while self.entries and self.entries[0][0] < horizon:
            self.total -= self.entries.popleft()[1]
