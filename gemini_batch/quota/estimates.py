"""By how much calls take more than was estimated, as the answers of their model tell. Pure."""

from collections import deque

# The last few dozen answers tell: a manifest may go from one script, or kind of image, to another.
ANSWERS = 48
# An answer tells nothing of calls that are more than so many times as large: what any prompt takes on top makes much of a short one.
LARGER = 4
# In steps of a tenth of the estimate, so that calls alike stay alike: the quota takes them in one go.
STEPS = 10


class UsageRatio:
    """How much calls will take of one thing that is counted, such as tokens: the most that answers took, as a share of their estimate."""

    def __init__(self) -> None:
        self._told: dict[str, deque[tuple[int, int]]] = {}

    def note(self, model: str, estimated: int, used: int) -> None:
        """Take in what an answer of a model really took, in the unit of its estimate."""
        if estimated > 0:
            steps = -(-used * STEPS // estimated)
            self._told.setdefault(model, deque(maxlen=ANSWERS)).append((estimated, steps))

    def expected(self, model: str, estimated: int) -> int:
        """Return what a call of this estimate will take: never less than the estimate."""
        told = self._told.get(model, ())
        steps = max(
            (steps for answered, steps in told if answered * LARGER >= estimated), default=STEPS
        )
        return -(-estimated * max(steps, STEPS) // STEPS)
