"""Why a whole run ends early: `Stop`."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gemini_batch.errors import ExitCode


class StopReason(StrEnum):
    """Why a run takes in no more calls."""

    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    STORAGE = "storage"
    AUTH = "auth"
    PRECONDITION = "precondition"  # region or project: not a matter of the key alone
    ADDRESS = "address"  # what answers there is not the API
    MODEL = "model"
    NO_ACCESS = "no_access"  # of one model: the key may use another
    BILLING = "billing"
    NO_QUOTA = "no_quota"
    DAY_CLOSED = "day_closed"
    BUDGET = "budget"
    DEADLINE = "deadline"
    OUTAGE = "outage"
    MANIFEST_CHANGED = "manifest_changed"


EXIT_OF_STOP = {
    StopReason.INTERRUPTED: ExitCode.INTERRUPTED,
    StopReason.TERMINATED: ExitCode.TERMINATED,
    StopReason.STORAGE: ExitCode.STORAGE,
    StopReason.AUTH: ExitCode.REFUSED,
    StopReason.PRECONDITION: ExitCode.REFUSED,
    StopReason.ADDRESS: ExitCode.REFUSED,
    StopReason.MODEL: ExitCode.REFUSED,
    StopReason.NO_ACCESS: ExitCode.REFUSED,
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a whole run ends early: it closes the intake, what is in flight drains and is written.

    Attributes:
        reason: Which kind.
        message: One sentence for a person: what happened and what to do.
        run_again_at: When running again makes sense, UTC; None for at once, or once the person has acted.
    """

    reason: StopReason
    message: str
    run_again_at: datetime | None = None

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that ends so."""
        return EXIT_OF_STOP.get(self.reason, ExitCode.STOPPED)


_RESOLVED_BY_WAITING = frozenset(
    {
        StopReason.INTERRUPTED,
        StopReason.TERMINATED,
        StopReason.DAY_CLOSED,
        StopReason.BUDGET,
        StopReason.DEADLINE,
    }
)


def resolved_by_waiting(*, made_progress: bool) -> frozenset[StopReason]:
    """Return the reasons after which the next run continues without action by the user.

    A budget is among them only if the run made progress: one that is too small for a single call
    stays too small.
    """
    return _RESOLVED_BY_WAITING if made_progress else _RESOLVED_BY_WAITING - {StopReason.BUDGET}
