"""The ratio of real to estimated use of calls, from recent answers of their model. Pure."""

from collections import deque

# The last few dozen answers count: a manifest may change from one kind of prompt to another.
ANSWERS = 48
# An answer says nothing about calls more than this many times as large: the fixed part of any
# prompt is a large share of a short one.
LARGER = 4
# Ratios are rounded up to a tenth, so that equal calls stay equal and are reserved together.
_TENTHS = 10


class UsageRatio:
    """The largest ratio of use to estimate in recent answers, of one unit such as tokens."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[int, int]]] = {}

    def note(self, model: str, estimated: int, used: int) -> None:
        """Record the real use of an answer of a model, in the unit of its estimate."""
        if estimated > 0:
            tenths = -(-used * _TENTHS // estimated)
            self._samples.setdefault(model, deque(maxlen=ANSWERS)).append((estimated, tenths))

    def expected(self, model: str, estimated: int) -> int:
        """Return the expected use of a call: never less than its estimate."""
        samples = self._samples.get(model, ())
        tenths = max(
            (tenths for answered, tenths in samples if answered * LARGER >= estimated),
            default=_TENTHS,
        )
        return -(-estimated * max(tenths, _TENTHS) // _TENTHS)
