"""Sender: one exchange with the API, from the in-flight note to the row of its answer."""

from dataclasses import dataclass, field
from typing import TypeAlias

from gemini_batch.client.response import parse_answer
from gemini_batch.client.transport import Transport
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.lanes import Attempt
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.result_row import Attempted, facts_of
from gemini_batch.engine.retry import may_be_billed
from gemini_batch.events import CallAbandoned, CallSent, CallUnanswered, Observer
from gemini_batch.output import StagedAnswer
from gemini_batch.records import ApiError, Failure, FailureKind, Reply, ResultRow

Outcome: TypeAlias = ResultRow | ApiError | Failure
"""The row of an answer, or why there is none."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt that was sent, and its outcome."""

    attempt: Attempt
    attempted: Attempted
    outcome: Outcome


@dataclass(kw_only=True, eq=False, repr=False)
class Sender:
    """Sends attempts and commits their answers.

    Attributes:
        max_attempts: Of a call in this run.
        in_flight: Requests that were sent and not yet answered, or whose images are not fetched.
    """

    queue: CallQueue
    transport: Transport
    committer: Committer
    remote: RemoteReplies
    observe: Observer
    max_attempts: int
    in_flight: int = field(default=0, init=False)

    async def send(self, attempt: Attempt) -> Sent:
        """Send a call; nothing is awaited between the last byte of a reply and its row.

        Only a reply that names its images by URI waits for them, kept on the disk.

        Cancellation: it may have been billed; the in-flight note stays, and the kept reply, and a
        picture that is whole.

        Raises:
            OSError: The disk refused the in-flight note; nothing was sent.
            StorageError: The disk refused the row; the staged files and the in-flight note stay
                for the next run.
        """
        call = attempt.call
        staged = self.committer.begin(call, attempt.number)
        self.observe(CallSent(call.id, attempt.number, call.request.lane))
        self.queue.sent(attempt)
        self.in_flight += 1
        try:
            exchange = await self.transport.send(call, staged, self.queue.connected)
        except BaseException:
            staged.abandon()
            self.observe(CallAbandoned(call.id))
            raise
        finally:
            self.in_flight -= 1
        attempted = Attempted(facts_of(call), attempt.number, exchange.timing)
        outcome: Outcome
        match parse_answer(exchange.answer):
            case Reply() as reply if reply.is_empty and self._is_tried_again(attempt):
                message = "the answer has no picture, no text and no reason"
                outcome = Failure(FailureKind.EMPTY, message, may_be_billed=False)
            case Reply(remote=()) as reply:
                outcome = self.committer.reply(attempted, reply)
            case Reply() as reply:
                outcome = await self._complete(attempted, reply, staged)
            case ApiError() | Failure() as error:
                outcome = error = await self.committer.keep_unreadable(staged, error)
                if may_be_billed(error):
                    self.observe(CallUnanswered(call.id, attempt.number, error.message))
        if isinstance(outcome, ResultRow) or not (attempt.may_be_billed or may_be_billed(outcome)):
            self.committer.end(call.id)  # else the note stays until the call ends, for a kill
        staged.discard()
        return Sent(attempt, attempted, outcome)

    async def _complete(
        self, attempted: Attempted, reply: Reply, staged: StagedAnswer
    ) -> ResultRow:
        self.in_flight += 1
        try:
            return await self.remote.commit(attempted, reply, staged, len(staged.arrived()))
        finally:
            self.in_flight -= 1

    def _is_tried_again(self, attempt: Attempt) -> bool:
        """Return whether an empty answer gets another attempt before it is `blocked`."""
        return FailureKind.EMPTY not in attempt.unusable and attempt.number < self.max_attempts
