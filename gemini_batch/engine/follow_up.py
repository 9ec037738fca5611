"""Follow-up of an attempt: settles it, and carries out what the retry policy decides."""

import random
from dataclasses import dataclass, field, replace

from gemini_batch.engine import retry
from gemini_batch.engine.admission import AdmissionControl, Admitted
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.lanes import Attempt, Lane, Streak
from gemini_batch.engine.result_row import Attempted
from gemini_batch.engine.retry_table import OF_ONE_MODEL
from gemini_batch.engine.sender import Outcome, Sent
from gemini_batch.events import CallRetrying, ModelReplaced, Observer, Waiting
from gemini_batch.records import (
    ApiError,
    Failure,
    FailureKind,
    ResultRow,
    Status,
    Stop,
    StopReason,
)
from gemini_batch.wording import with_advice

# A wrong address answers each call with something other than an answer of the API.
MAX_NOT_ANSWERS = 3
# What is wrong with this many calls in a row is wrong with all of the model; refused requests count
# in the quota (google-gemini/gemini-cli#15184, collected 2026-11-30).
MAX_ALIKE = 5


@dataclass(kw_only=True, eq=False, repr=False)
class FollowUp:
    """Ends a call, or puts it back, and holds back what must wait. A stop is a value."""

    queue: CallQueue
    admission: AdmissionControl
    committer: Committer
    rules: retry.RetryRules
    observe: Observer
    _not_answers: Streak = field(default_factory=Streak, init=False)

    async def __call__(self, sent: Sent, admitted: Admitted) -> list[Stop]:
        """Settle an attempt and do what follows; return why the run, or a model, must stop.

        Cancellation: what is settled stays so; a call without its row is left to the next run.

        Raises:
            StorageError: The disk or the ledger refused.
        """
        attempt, lane, outcome = sent.attempt, sent.attempt.lane, sent.outcome
        await admitted.settle(outcome)
        stops = [*await self._note(sent), *self._no_answer(outcome)]
        if isinstance(outcome, ResultRow):
            lane.refusals.end()
            return stops
        attempt = attempt.after(outcome)
        decision = retry.follow_up(
            outcome,
            self.rules,
            attempt=attempt.number,
            of_kind=sum(kind.value == outcome.name for kind in attempt.unusable),
            random=random.random,
            is_flex=attempt.call.request.service_tier == "flex",
        )
        if decision != retry.REJECT:
            lane.refusals.end()
        match decision:
            case retry.RetryAfter() as again:
                if again.pauses_model:
                    await admitted.pause(again.wait_s, overrun=retry.is_quota(outcome))
                if not stops:
                    self._retry(attempt, again, outcome)
            case retry.CloseDay(ends_in_s):
                await admitted.close_day(ends_in_s)
                self.queue.put_back(attempt)  # admission now says until when
            case retry.EndCall(status):
                stops += self._end(sent.attempted, lane, status, outcome)
            case Stop() as stop:
                stops += self._stop(attempt, stop)
        return stops

    async def _note(self, sent: Sent) -> list[Stop]:
        """Let the outcome open or close circuit breakers; stop what is given up."""
        lane = sent.attempt.lane
        opened = self.queue.note(lane, sent.outcome, sent.attempted.timing.latency_s)
        now_s = self.queue.now_s
        if opened is lane.server:
            for each in self.queue.open_lanes:
                # Calls that wait for their permit would get it while they may not be sent.
                await self.admission.pause(each.model, opened.left_s(now_s))
        elif opened is not None:
            self.observe(Waiting(lane.model, opened.left_s(now_s), opened.reason))
        outage = lane.outage(now_s)
        return [] if outage is None else [outage]

    def _no_answer(self, outcome: Outcome) -> list[Stop]:
        """Return a stop once several answers in a row were not of the API."""
        if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.NOT_AN_ANSWER:
            self._not_answers.end()
            return []
        if self._not_answers.note(outcome.kind) < MAX_NOT_ANSWERS:
            return []
        message = f"{MAX_NOT_ANSWERS} answers in a row were not from the Gemini API: "
        message = with_advice(message + outcome.message, "check --base-url")
        return [Stop(StopReason.ADDRESS, message)]

    def _retry(self, attempt: Attempt, again: retry.RetryAfter, error: ApiError | Failure) -> None:
        """Let the call be sent again, unless its model has stopped."""
        wait_s = max(again.wait_s, attempt.lane.server.left_s(self.queue.now_s))
        is_billed = retry.may_be_billed(error)
        next_attempt = replace(
            attempt,
            number=attempt.number + again.was_attempt,
            may_be_billed=attempt.may_be_billed or is_billed,
        )
        if self.queue.put_back(next_attempt, wait_s):
            call_id, number = attempt.call.id, attempt.number
            message, name = error.message, error.name
            self.observe(CallRetrying(call_id, number, wait_s, message, is_billed, name))

    def _end(
        self, attempted: Attempted, lane: Lane, status: Status, error: ApiError | Failure
    ) -> list[Stop]:
        """Write the row; return a stop once calls in a row were rejected with the same message."""
        self.committer.error(attempted, status, error)
        self.committer.end(attempted.call.id)
        if status is not Status.REJECTED or lane.refusals.note(error.message) < MAX_ALIKE:
            return []
        if self.rules.keeps_going:
            return []
        message = (
            f"{MAX_ALIKE} calls of {lane.model} in a row were rejected with the same message: "
            f"{error.message}"
        )
        advice = "correct the manifest, or send the others anyway with --keep-going"
        return [Stop(StopReason.ALIKE, with_advice(message, advice), model=lane.model)]

    def _stop(self, attempt: Attempt, stop: Stop) -> list[Stop]:
        """Return the stop, of the run or of the call's model, unless a successor takes the call."""
        if stop.reason not in OF_ONE_MODEL:
            return [stop]
        lane, stop = attempt.lane, replace(stop, model=attempt.lane.model)
        is_gone = stop.reason is StopReason.MODEL
        if is_gone and (successor := self.queue.replace_model(lane, stop)):
            advice = f"the run continues with its successor {successor}"
            message = with_advice(stop.message, advice)
            self.observe(ModelReplaced(stop.model, successor, message))
        if lane.passes_on(attempt.call):
            self.queue.put_back(attempt)
            return []
        return [stop]
