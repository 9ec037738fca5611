"""Chaining: which calls may be sent, for the calls whose pictures they use have theirs."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from gemini_batch.manifest.chains import Chains
from gemini_batch.output.pictures import Pictures
from gemini_batch.plan.call_state import NOT_TO_DO, OF_OTHERS, CallState
from gemini_batch.plan.totals import Plan
from gemini_batch.records import Status

if TYPE_CHECKING:  # most runs have no chains
    from gemini_batch.records import ResultRow


class Reason(IntEnum):
    """The reason why a child can't be sent: the first one above it that brings no picture."""

    NONE = 0
    ELSEWHERE = 1  # another worker's, which may still bring it
    WAITING = 2  # in a batch, which may still bring it
    LATER = 3  # not in the part that the run is for
    MISSING = 4  # its picture is gone from the folder, or changed
    BLOCKED = 5
    REJECTED = 6
    FAILED = 7
    UNCERTAIN = 8
    LOST = 9


SOON = frozenset({Reason.ELSEWHERE.name.lower(), Reason.WAITING.name.lower()})
"""Reasons that end by themselves; any other one requires user action."""
_OF_STATUS = {
    Status.BLOCKED: Reason.BLOCKED,
    Status.REJECTED: Reason.REJECTED,
    Status.FAILED: Reason.FAILED,
    Status.UNCERTAIN: Reason.UNCERTAIN,
    Status.LOST: Reason.LOST,
}
_OF_STATE: dict[int, Reason] = {
    CallState.LATER: Reason.LATER,
    CallState.ELSEWHERE: Reason.ELSEWHERE,
}
_COMES_OTHER = frozenset(
    {
        CallState.NEW,
        CallState.EDITED,
        CallState.RETRY,
        CallState.WAITING,
        CallState.ELSEWHERE,
    }
)
_ARE_DONE = (CallState.DONE, CallState.DONE_ELSEWHERE)
_HANDED_OUT = frozenset(CallState) - {CallState.DONE, CallState.LATER, CallState.HELD} - OF_OTHERS
_MAY_BE_HELD = _HANDED_OUT - {CallState.WAITING, CallState.UNFETCHED} | {CallState.HELD}


@dataclass(frozen=True, slots=True)
class Choice:
    """Choices of a run about calls that are made of other pictures than the newest ones.

    Both functions get the index of a job and the variant.

    Attributes:
        is_redone: Returns whether a call that is done is made again.
        drop_reused: Drops the answer of another folder to a call.
    """

    is_redone: Callable[[int, int], bool]
    drop_reused: Callable[[int, int], None]


class Chaining:
    """The children of a manifest in one run. Memory is that of arrays.

    Attributes:
        stale: Calls that are done, and are made of a picture that was made again, or will be by
            this run, and calls below these; those that are made again are not among them.
        freed: Calls that took a place in the part of the run, and can't be sent.
    """

    def __init__(
        self, chains: Chains, plan: Plan, pictures: Pictures, awaits: Callable[[int], bool]
    ) -> None:
        """Start without states; `awaits` returns whether a call waits in a batch, by its key."""
        self._awaits = awaits
        self.chains = chains
        self.pictures = pictures
        self.stale = 0
        self.freed = 0
        self._plan = plan
        slots = len(chains.jobs)
        self._has_picture, self._has_row = bytearray(slots), bytearray(slots)
        self._missing = array("I", bytes(4 * len(chains)))  # parents without a picture, by child
        self._unmet = bytearray(len(chains))
        self._reasons = bytearray(len(chains))  # of the plan, by child
        self._has_stale = bytearray(len(chains))
        self._ready = array("I")  # children, in the order in which they became ready

    def settle(self, choice: Choice, *, has_limit: bool) -> None:
        """Set the states of all children in the plan, parents before children."""
        reasons = self._reasons
        for number in self.chains.order:
            self._look(number)
            reasons[number] = self._reason_of(number, reasons)
            states = self._settled(number, choice, has_limit=has_limit)
            self._plan.settle_child(number, states)

    def _is_below_stale(self, slots: Sequence[int]) -> bool:
        """Return whether a parent is stale, and so will be made again before its children."""
        numbers = map(self.chains.parent_child, slots)
        return any(number is not None and self._has_stale[number] for number in numbers)

    def may_take(self, index: int) -> bool:
        """Return whether a job can be sent in this run, by its parents."""
        number = self.chains.number(index)
        if number is None:
            return True
        return all(
            self._has_picture[slot] or self._plan.state(*self.chains.call(slot)) not in NOT_TO_DO
            for slot in self.chains.parents(number)
        )

    def start(self) -> None:
        """Let those children be ready whose parents have their pictures; the plan is final."""
        for number, index in enumerate(self.chains.children):
            have_pictures = [self._has_picture[slot] for slot in self.chains.parents(number)]
            missing = self._missing[number] = have_pictures.count(0)
            states = self._plan.states(index)
            # What is paid for is fetched without them.
            in_vain = self._reasons[number] > Reason.WAITING
            can_do = not missing or (in_vain and CallState.UNFETCHED in states)
            if can_do and not _HANDED_OUT.isdisjoint(states):
                self._ready.append(number)

    def _look(self, number: int) -> None:
        """Note which parents of a child have their pictures, before the run."""
        for slot in self.chains.parents(number):
            if self.pictures.status(slot) is Status.SUCCEEDED:
                is_done = self._plan.state(*self.chains.call(slot)) in _ARE_DONE
                self._has_picture[slot] = is_done

    def _settled(self, number: int, choice: Choice, *, has_limit: bool) -> bytes:
        """Return the states of a child's calls by what is known of its parents."""
        reason = self._reasons[number]
        index, slots = self.chains.children[number], self.chains.parents(number)
        states = bytearray(self._plan.states(index))
        comes = any(self._plan.state(*self.chains.call(slot)) in _COMES_OTHER for slot in slots)
        for place, given in enumerate(states):
            state = given
            if state == CallState.DONE:
                key = self._plan.child_key(number, place)
                is_stale = comes or self.pictures.are_other(key, slots)
                if is_stale and choice.is_redone(index, place + 1):
                    state = CallState.RETRY
                elif is_stale or self._is_below_stale(slots):
                    self.stale += 1
                    self._has_stale[number] = True
            elif state == CallState.REUSED and comes:
                choice.drop_reused(index, place + 1)
                state = CallState.NEW
            is_held = state not in NOT_TO_DO and state != CallState.UNFETCHED
            if is_held and reason > Reason.WAITING:
                # A limit is for calls that can be sent.
                is_later = has_limit and reason == Reason.LATER
                state = CallState.LATER if is_later else CallState.HELD
                self.freed += 1
            states[place] = state
        return bytes(states)

    def see(self, row: "ResultRow", place: int) -> bool:
        """Note a durable row; return whether children have become ready by it."""
        slot = self.chains.slot(row.id)
        if slot is None or row.status is Status.LATE:
            return False
        self.pictures.see(row, place)
        self._has_row[slot] = True
        if row.status is not Status.SUCCEEDED or self._has_picture[slot]:
            return False
        self._has_picture[slot] = True
        before = len(self._ready)
        for number in self.chains.kids(slot):
            self._missing[number] -= 1
            if not self._missing[number]:
                self._ready.append(number)
        return len(self._ready) > before

    def is_parent(self, call_id: str) -> bool:
        """Return whether other calls use the picture of a call."""
        return self.chains.slot(call_id) is not None

    def ready(self, lane: str) -> Iterator[tuple[int, int] | None]:
        """Yield (index of the job, variant) of the ready calls of a lane, without an end.

        None is in the place of each that is not ready yet.
        """
        start = 0
        while True:
            while start < len(self._ready):
                index = self.chains.children[self._ready[start]]
                start += 1
                if self._plan.is_of(lane, index):
                    for place, state in enumerate(self._plan.states(index)):
                        if state in _HANDED_OUT:
                            yield index, place + 1
            yield None

    @property
    def may_release(self) -> bool:
        """True while some children are not ready."""
        return len(self._ready) < len(self.chains)

    def picture_place(self, call_id: str) -> int | None:
        """Return where the row of a parent's picture begins; None if it has none."""
        slot = self.chains.slot(call_id)
        return self.pictures.place(slot) if slot is not None and self._has_picture[slot] else None

    def leave(self, index: int) -> None:
        """Note that a child can't be sent, because a picture is gone."""
        if (number := self.chains.number(index)) is not None:
            self._unmet[number] = True

    def held(self) -> Mapping[str, int]:
        """Return the number of calls that can't be sent, by the reason; those of a stopped run can.

        It is of the plan before a run, and of its end after it.
        """
        counts, chains = Counter[Reason](), self.chains
        reasons = bytearray(len(chains))
        for number in chains.order:
            found = Reason.MISSING if self._unmet[number] else self._reason_of(number, reasons)
            reasons[number] = reason = Reason(found)
            if reason:
                states = self._plan.states(chains.children[number])
                counts[reason] += sum(state in _MAY_BE_HELD for state in states)
        return {reason.name.lower(): number for reason, number in sorted(counts.items()) if number}

    def _reason_of(self, number: int, reasons: Sequence[int]) -> int:
        """Return why a child can't be sent; one that may end by itself comes last."""
        found = [self._reason(slot, reasons) for slot in self.chains.parents(number)]
        return max(found, default=Reason.NONE)

    def _reason(self, slot: int, reasons: Sequence[int]) -> int:
        """Return why a parent has no picture, or none yet."""
        if self._has_picture[slot]:
            return Reason.NONE
        if self._awaits(self.chains.keys[slot]):
            return Reason.WAITING
        status = self.pictures.status(slot)
        state = self._plan.state(*self.chains.call(slot))
        if state in _ARE_DONE or (status and self._has_row[slot]):
            return _OF_STATUS.get(status, Reason.MISSING) if status else Reason.MISSING
        if state in _OF_STATE:
            return _OF_STATE[state]
        child = self.chains.parent_child(slot)
        return reasons[child] if child is not None else Reason.NONE
