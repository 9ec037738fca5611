"""`Stop`: the reason why a run, or a model within it, ends early."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gemini_batch.errors import ExitCode, LedgerError, StorageError


class StopReason(StrEnum):
    """Reasons why a run starts no more calls."""

    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    STORAGE = "storage"
    AUTH = "auth"
    PRECONDITION = "precondition"  # region or project: the key alone is not the problem
    ADDRESS = "address"  # the server at the address is not the API
    CERTIFICATE = "certificate"  # the server's is not trusted here
    PROXY = "proxy"  # the proxy of the environment refuses to connect
    MODEL = "model"
    NO_ACCESS = "no_access"  # of one model: the key may use another
    BILLING = "billing"
    NO_QUOTA = "no_quota"
    DAY_CLOSED = "day_closed"
    LEDGER = "ledger"  # that of several machines, without which nothing is sent
    BUDGET = "budget"
    DEADLINE = "deadline"
    OUTAGE = "outage"
    ALIKE = "alike"  # call after call of a model was rejected with the same message
    MANIFEST_CHANGED = "manifest_changed"
    WAITING = "waiting"  # calls wait in batches
    BATCH_FULL = "batch_full"  # the server takes no more batches now
    NO_BATCH = "no_batch"  # the server, or the model, has no Batch API
    OTHER_KEY = "other_key"  # a batch is seen only with the key that made it


_EXIT_CODES = dict.fromkeys(StopReason, ExitCode.STOPPED) | {
    StopReason.INTERRUPTED: ExitCode.INTERRUPTED,
    StopReason.TERMINATED: ExitCode.TERMINATED,
    StopReason.STORAGE: ExitCode.STORAGE,
    StopReason.AUTH: ExitCode.REFUSED,
    StopReason.PRECONDITION: ExitCode.REFUSED,
    StopReason.ADDRESS: ExitCode.REFUSED,
    StopReason.CERTIFICATE: ExitCode.REFUSED,
    StopReason.PROXY: ExitCode.REFUSED,
    StopReason.MODEL: ExitCode.REFUSED,
    StopReason.NO_ACCESS: ExitCode.REFUSED,
    StopReason.BILLING: ExitCode.REFUSED,
    StopReason.NO_QUOTA: ExitCode.REFUSED,
    StopReason.OTHER_KEY: ExitCode.REFUSED,
    StopReason.NO_BATCH: ExitCode.BAD_INPUT,
    StopReason.ALIKE: ExitCode.INCOMPLETE,
}
_RESOLVED_BY_WAITING = frozenset(
    (
        StopReason.INTERRUPTED,
        StopReason.TERMINATED,
        StopReason.DAY_CLOSED,
        StopReason.DEADLINE,
        StopReason.WAITING,
        StopReason.BATCH_FULL,
    )
)
_AFTER_PROGRESS = frozenset((StopReason.BUDGET, StopReason.LEDGER))


@dataclass(frozen=True, slots=True)
class Stop:
    """An early end of a run: no more calls are started, calls in flight are completed.

    Attributes:
        message: One sentence for the user: what happened and what to do.
        run_again_at: The time when running again makes sense, UTC; None for at once, or once the
            user has acted.
        model: The model whose calls are held back; "" for all.
        needs_person: The user has to look, though time alone may do.
    """

    reason: StopReason
    message: str
    run_again_at: datetime | None = None
    model: str = ""
    needs_person: bool = False

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that stops for this reason."""
        return _EXIT_CODES[self.reason]


def resolved_by_waiting(*, made_progress: bool) -> frozenset[StopReason]:
    """Return the reasons after which the next run continues without action by the user.

    A budget is among them only if the run made progress: one that is too small for a single call
    stays too small. So is a ledger that can't be reached: its address may be wrong.
    """
    return _RESOLVED_BY_WAITING | (_AFTER_PROGRESS if made_progress else frozenset())


def stop_of(error: StorageError) -> Stop:
    """Return the stop of a run whose disk, or whose shared ledger, failed."""
    is_ledger = isinstance(error, LedgerError)
    return Stop(StopReason.LEDGER if is_ledger else StopReason.STORAGE, str(error))
