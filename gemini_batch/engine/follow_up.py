"""Follow-up of an attempt: settles it, and carries out what the retry policy decides."""

import random
from dataclasses import dataclass, field, replace

from gemini_batch.engine import retry
from gemini_batch.engine.admission import AdmissionControl, Admitted
from gemini_batch.engine.breaker import SERVER_GIVES_UP_AFTER_S
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Attempted, Committer
from gemini_batch.engine.error_kinds import kind_of
from gemini_batch.engine.lanes import Attempt, Lane, Streak
from gemini_batch.engine.sender import Sent
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

# A wrong address answers each call with something else than an answer of the API.
MAX_NOT_ANSWERS = 3
# What is wrong with so many calls in a row is wrong with all of the model; refused requests count
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
        lane, outcome = sent.attempt.lane, sent.outcome
        await admitted.settle(outcome)
        stops = [*await self._note(lane, sent), *self._no_answer(outcome)]
        if isinstance(outcome, ResultRow):
            lane.refusals.end()
            return stops
        attempt = sent.attempt
        if isinstance(outcome, Failure) and retry.is_limited(outcome):
            attempt = replace(attempt, unusable=(*attempt.unusable, outcome.kind))
        decision = retry.follow_up(
            outcome,
            self.rules,
            attempt=attempt.number,
            of_kind=sum(kind.value == outcome.name for kind in attempt.unusable),
            random=random.random,
        )
        if decision != retry.REJECT:
            lane.refusals.end()
        match decision:
            case retry.RetryAfter() as again:
                if again.pauses_model:
                    await admitted.pause(again.wait_s, overrun=retry.is_quota(outcome))
                self._put_back(attempt, again, outcome, stops)
            case retry.CloseDay(ends_in_s):
                await admitted.close_day(ends_in_s)
                self.queue.put_back(attempt)  # admission now says until when
            case retry.EndCall(status):
                stops += self._end(sent.attempted, lane, status, outcome)
            case Stop() as stop if self._goes_on(attempt, stop):
                self.queue.put_back(attempt)
            case Stop() as stop:
                of_model = lane.model if stop.reason in retry.OF_ONE_MODEL else ""
                stops.append(replace(stop, model=of_model))
        return stops

    def _goes_on(self, attempt: Attempt, stop: Stop) -> bool:
        """Return whether a call continues with its model's successor; the first moves all."""
        lane = attempt.lane
        if stop.reason is StopReason.MODEL and lane.successor and lane.next_lane is None:
            self.queue.replace_model(lane, lane.successor, replace(stop, model=lane.model))
            advice = f"the run continues with its successor {lane.successor}"
            message = retry.with_advice(stop.message, advice)
            self.observe(ModelReplaced(lane.model, lane.successor, message))
        is_of_model = stop.reason in retry.OF_ONE_MODEL
        return is_of_model and lane.next_lane is not None and attempt.call.if_gone is not None

    async def _note(self, lane: Lane, sent: Sent) -> list[Stop]:
        """Let the outcome open or close circuit breakers; stop what one gives up on."""
        opened = self.queue.note(lane, sent.outcome, sent.attempted.timing.latency_s)
        now_s = self.queue.now_s
        if opened is lane.server:
            for each in self.queue.open_lanes:
                # Calls that wait for their permit would get it while they may not be sent.
                await self.admission.pause(each.model, opened.left_s(now_s))
        elif opened is not None:
            self.observe(Waiting(lane.model, opened.left_s(now_s), opened.reason))
        if lane.server.is_exhausted(now_s):
            message = f"{lane.server.reason}, for {lane.server.gives_up_after_s:g} s"
            return [Stop(StopReason.OUTAGE, message)]
        patience_s = lane.breaker.gives_up_after_s
        if isinstance(sent.outcome, ApiError) and kind_of(sent.outcome) in retry.NOT_REACHED:
            patience_s = SERVER_GIVES_UP_AFTER_S  # the model may be well: nothing has reached it
        if lane.breaker.is_exhausted(now_s, patience_s):
            message = f"{lane.breaker.reason} for {lane.model}, for {patience_s / 60:g} minutes"
            return [Stop(StopReason.OUTAGE, message, model=lane.model)]
        return []

    def _no_answer(self, outcome: ResultRow | ApiError | Failure) -> list[Stop]:
        """Return a stop once several answers in a row were not of the API."""
        if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.NOT_AN_ANSWER:
            self._not_answers.end()
            return []
        if self._not_answers.note(outcome.kind) < MAX_NOT_ANSWERS:
            return []
        message = f"{MAX_NOT_ANSWERS} answers in a row were not of the Gemini API: "
        message = retry.with_advice(message + outcome.message, "check --base-url")
        return [Stop(StopReason.ADDRESS, message)]

    def _end(
        self, attempted: Attempted, lane: Lane, status: Status, error: ApiError | Failure
    ) -> list[Stop]:
        """Write the row; return a stop once several calls in a row were rejected alike."""
        self.committer.error(attempted, status, error)
        self.committer.end(attempted.call.id)
        if status is not Status.REJECTED or lane.refusals.note(error.message) < MAX_ALIKE:
            return []
        if self.rules.keeps_going:
            return []
        message = f"{MAX_ALIKE} calls of {lane.model} in a row were rejected alike: {error.message}"
        advice = "correct the manifest, or send the others all the same with --keep-going"
        return [Stop(StopReason.ALIKE, retry.with_advice(message, advice), model=lane.model)]

    def _put_back(
        self,
        attempt: Attempt,
        again: retry.RetryAfter,
        error: ApiError | Failure,
        stops: list[Stop],
    ) -> None:
        """Let the call be sent again, unless its model or the run has stopped."""
        lane = attempt.lane.current(attempt).lane
        if lane.is_closed or any(each.model in ("", lane.model) for each in stops):
            return
        wait_s = max(again.wait_s, attempt.lane.server.left_s(self.queue.now_s))
        is_billed = retry.may_be_billed(error)
        self.observe(
            CallRetrying(
                attempt.call.id, attempt.number, wait_s, error.message, is_billed, error.name
            )
        )
        attempt = replace(
            attempt,
            number=attempt.number + again.was_attempt,
            may_be_billed=attempt.may_be_billed or is_billed,
        )
        self.queue.put_back(attempt, wait_s)
