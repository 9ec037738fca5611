"""States of the calls of a manifest after earlier runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING

from gemini_batch.config import Settings
from gemini_batch.output.final_rows import FINAL
from gemini_batch.output.history import History
from gemini_batch.output.rowless import RowlessImages
from gemini_batch.output.unfetched import Unfetched
from gemini_batch.output.waiting import Waiting
from gemini_batch.plan import canonical
from gemini_batch.plan.again import Again
from gemini_batch.plan.call_state import Aliases, CallState
from gemini_batch.plan.part import Part
from gemini_batch.records import Status

if TYPE_CHECKING:
    from gemini_batch.output.reuse import Reuse
    from gemini_batch.records import ResultRow


def _is_any(_call_id: str) -> bool:
    return True


@dataclass(slots=True, eq=False)
class RunHistory:
    """Compares calls with the rows of earlier runs.

    Attributes:
        again: Finished calls that are sent again for more than their status; None if none is.
        part: The calls that this run is for; None for all.
        rowless: The images that no row names.
        without_row: Number of calls that are not done and have such an image.
        waiting: The open batches, and their calls.
        others: The same of other workers, who collect them.
        waiting_elsewhere: Number of calls that wait in these.
        by_alias: Number of calls that were done by another id of their model.
        statuses: Number of newest rows by status, of the same requests only. A row of this run
            takes the row that it replaces out of the count.
    """

    _history: History
    config: Settings
    reuse: "Reuse | None"
    rowless: RowlessImages
    unfetched: Unfetched | None
    again: Again | None = None
    part: Part | None = None
    waiting: Waiting = field(default_factory=Waiting)
    others: Waiting = field(default_factory=Waiting)
    waiting_elsewhere: int = 0
    without_row: int = 0
    by_alias: int = 0
    statuses: Counter[Status] = field(default_factory=Counter)
    _undone: Counter[Status] = field(default_factory=Counter)
    _done: frozenset[Status] = field(init=False)

    def __post_init__(self) -> None:
        self._done = FINAL - self.config.retry

    @property
    def is_new(self) -> bool:
        """True if nothing is known of any call."""
        known = len(self._history) or len(self.rowless) or self.reuse or self.waiting
        return not (known or self.part or self.again or self.others or self.config.shard)

    @property
    def is_simple(self) -> bool:
        """True if calls are done, or not, by their rows alone."""
        others = (self.reuse, self.again, self.part, self.waiting, self.others, self.without_row)
        return not any(others) and self.unfetched is not None and not self.unfetched.is_any

    def done_statuses(self) -> Counter[Status]:
        """Return the statuses of the calls that are done, before the run."""
        return self.statuses - self._undone

    def add_done(self, statuses: Mapping[str, int], by_alias: int) -> None:
        """Count calls that are done, and of which no more is known."""
        self.statuses.update({Status(name): number for name, number in statuses.items()})
        self.by_alias += by_alias

    @property
    def endpoint(self) -> str:
        """The endpoint of the run."""
        return self.config.endpoint

    def state(self, call_id: str, request_sha256: str, aliases: Aliases) -> CallState:
        """Return the state of a call, and count its status.

        An answer to one of its aliases counts as its own.
        """
        if not self._is_own(call_id):
            return self._of_other(call_id, request_sha256)
        is_waiting = bool(self.waiting) and self._is_waiting(call_id, request_sha256, aliases)
        is_elsewhere = bool(self.others) and self._holds(
            self.others, call_id, request_sha256, aliases
        )
        is_named = self.part is None or self.part.names(call_id)
        state = self._own(call_id, request_sha256, aliases)
        if state is CallState.DONE:
            return state
        if is_waiting or is_elsewhere:
            self.waiting_elsewhere += not is_waiting
            return CallState.WAITING
        if self.part is not None and not (is_named and self.part.takes_one()):
            return CallState.LATER
        return self._sent_or_copied(state, call_id, request_sha256, aliases)

    def _sent_or_copied(
        self, state: CallState, call_id: str, request_sha256: str, aliases: Aliases
    ) -> CallState:
        if self.rowless.has(call_id):
            self.without_row += 1
            if self.config.adopts_images:
                return CallState.REUSED
        if not self.reuse or (self.again and self.again.redoes(call_id)):
            return state
        is_reused = self.reuse.reserve(call_id, request_sha256) or any(
            self.reuse.reserve(call_id, request_sha256, canonical.request_sha256(alias))
            for _, alias in aliases(_is_any)
        )
        return CallState.REUSED if is_reused else state

    def _is_own(self, call_id: str) -> bool:
        shard = self.config.shard
        return shard is None or shard.owns(call_id)

    def _of_other(self, call_id: str, request_sha256: str) -> CallState:
        """Return the state of another worker's call: it has a name, and takes an answer, too."""
        if self.part is not None:
            self.part.names(call_id)
        is_again = self.again is not None and self.again.has(call_id)
        status = self._history.status(call_id, request_sha256, self.config.endpoint)
        if status in self._done and not is_again:
            return CallState.DONE_ELSEWHERE
        if self.reuse is not None and not is_again:
            self.reuse.reserve(call_id, request_sha256)
        return CallState.ELSEWHERE

    def state_again(self, call_id: str, request_sha256: str, aliases: Aliases) -> CallState:
        """Return the state of a call that was asked for before; it is not counted again."""
        statuses, without_row = self.statuses.copy(), self.without_row
        try:
            return self.state(call_id, request_sha256, aliases)
        finally:
            self.statuses, self.without_row = statuses, without_row

    def _is_waiting(self, call_id: str, request_sha256: str, aliases: Aliases) -> bool:
        """Return whether an open batch may answer a call; note what the manifest asks of it."""
        endpoint, waiting = self.config.endpoint, self.waiting
        if waiting.has(call_id) and not waiting.is_of_all(call_id, request_sha256, endpoint):
            others = (canonical.request_sha256(alias) for _, alias in aliases(_is_any))
            waiting.note_asked(call_id, (request_sha256, *others), endpoint)
        return self._holds(waiting, call_id, request_sha256, aliases)

    def _holds(self, waiting: Waiting, call_id: str, request_sha256: str, aliases: Aliases) -> bool:
        endpoint = self.config.endpoint
        return waiting.holds(call_id, request_sha256, endpoint) or any(
            waiting.holds(other_id, canonical.request_sha256(alias), endpoint)
            for other_id, alias in aliases(waiting.has)
        )

    def are_done(self, call_ids: Sequence[str], request_sha256s: Sequence[str]) -> list[bool]:
        """Return which calls are done by a row of their own, and count the statuses of these.

        It is all that there is to know of them; any other call may be done, too: see `state`.
        """
        found = self._history.statuses(call_ids, request_sha256s, self.config.endpoint)
        are_done = [status in self._done for status in found]
        if self.config.shard is not None:
            own = map(self._is_own, call_ids)
            are_done = [is_done and each for is_done, each in zip(are_done, own, strict=True)]
        if self.again:
            again = map(self.again.has, call_ids)
            are_done = [is_done and not each for is_done, each in zip(are_done, again, strict=True)]
        self.statuses.update(status for status in compress(found, are_done) if status)
        if self.part is not None:
            for call_id in compress(call_ids, are_done):
                self.part.names(call_id)
        return are_done

    def _own(self, call_id: str, request_sha256: str, aliases: Aliases) -> CallState:
        history, endpoint = self._history, self.config.endpoint
        # Asked of each call, done or not: `--redo` may name any call of the manifest.
        is_again = self.again is not None and self.again.has(call_id)
        status = history.status(call_id, request_sha256, endpoint)
        if status is None:
            for other_id, alias in aliases(history.has):
                other = other_id, canonical.request_sha256(alias)
                history.rename(other, (call_id, request_sha256), endpoint)
            status = history.status(call_id, request_sha256, endpoint)
            self.by_alias += status in self._done
        if status is None:
            return CallState.EDITED if self._history.was_answered(call_id) else CallState.NEW
        self.statuses[status] += 1
        if status in self._done and not is_again:
            return CallState.DONE
        self._undone[status] += 1
        is_unfetched = self.unfetched and self.unfetched.has(
            call_id,
            request_sha256,
            *(canonical.request_sha256(alias) for _, alias in aliases(history.has)),
        )
        return CallState.UNFETCHED if is_unfetched else CallState.RETRY

    def adopts(self, call_id: str) -> bool:
        """Return whether a call that is not done takes the image that is there for its own."""
        return self.config.adopts_images and self.rowless.has(call_id)

    def replace(self, row: "ResultRow") -> None:
        """Take the status of the row that `row` replaces out of the count."""
        if row.status is Status.LATE:
            return
        status = self._history.status(row.id, row.request_sha256, row.endpoint)
        if status is not None:
            self.statuses[status] -= 1
        if row.is_given_back:
            self._history.give_back(row.id, row.request_sha256, row.endpoint)

    def batch_tries(self, call_id: str) -> int:
        """Return how often in a row a batch gave a call back."""
        return self._history.batch_tries(call_id)
