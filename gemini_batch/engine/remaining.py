"""Remaining calls of a run: which are left to be sent, and by which route."""

from dataclasses import dataclass, field

from gemini_batch.config import Settings
from gemini_batch.engine.batch import steps
from gemini_batch.events import CallFinished
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.records import Status


@dataclass(eq=False, repr=False)
class RemainingCalls:
    """The calls that a run with several phases has not done yet.

    Without batches a run has one phase, and nothing is noted of single calls.
    """

    _planned: BuiltPlan
    _config: Settings
    _has_batches: bool
    _done: HashMap64 = field(default_factory=HashMap64)  # 1 by the hash of an id
    _given_back: HashMap64 = field(default_factory=HashMap64)  # as well

    def note(self, event: CallFinished) -> bool:
        """Note a call that has ended; return whether calls can be sent now that could not before.

        A batch may have given the call back, or the calls that use its picture are ready.
        """
        row, has_new = event.row, False
        if (chaining := self._planned.chaining) is not None:
            start = self._planned.history.waiting.start
            has_new = chaining.see(row, start + event.offset_bytes)
        if not self._has_batches:
            return has_new
        self._planned.history.waiting.see(row, event.offset_bytes)
        call = fingerprint(row.id)
        if row.is_given_back:
            self._given_back.put(call, 1)
            has_new = True
        if row.status is not Status.LATE:
            self._done.put(call, not row.is_given_back)
        return has_new

    @property
    def may_have(self) -> bool:
        """False if nothing was to be sent but what batches answer, and none gave a call back."""
        has_chains = self._planned.chaining is not None
        return has_chains or self._planned.plan.todo > 0 or len(self._given_back) > 0

    def has(self, call_id: str) -> bool:
        """Return whether a call is left to be sent in this run."""
        key, part = fingerprint(call_id), self._planned.history.part
        if self._done.get(key):
            return False
        if part is None or not self._given_back.get(key):
            return True
        # What a batch gave back is sent if the run is for it; a limit counts other calls.
        return self._config.limit is None and part.names(call_id)

    def is_for_batch(self, call_id: str) -> bool:
        """Return whether a call may be sent in a batch: not after several gave it back."""
        if not self.has(call_id):
            return False
        is_tried = self._planned.history.batch_tries(call_id) >= steps.TRIES
        is_given_back = bool(self._given_back.get(fingerprint(call_id)))
        return not is_tried or (self._config.route == "batch" and not is_given_back)
