"""Calls that a killed run had in flight, when their turn comes again: answered after all, left alone, or sent again."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from gemini_batch.client.response import parse_answer
from gemini_batch.clock import Clock
from gemini_batch.engine.commit import Attempted, Committer
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.records import Answer, Call, Failure, FailureKind, Reply, Status, Timing

Prepare: TypeAlias = Callable[[Call, int], Awaitable[Call | None]]


class Unfinished:
    """Goes before what makes a call ready, and ends the calls that are not to be sent again."""

    def __init__(
        self,
        store: OutputFolder,
        committer: Committer,
        in_flight_log: InFlightLog,
        clock: Clock,
        calls: Mapping[str, str],
        *,
        skip: bool,
        prepare: Prepare,
    ) -> None:
        """Take what the killed run had in flight.

        Args:
            store: Where answers are kept.
            committer: Writes the rows.
            in_flight_log: Forgets the calls that end here.
            clock: For rows of calls that are not sent.
            calls: Id → request_sha256.
            skip: Whether a call that may have been billed is left `uncertain`; else it is sent again.
            prepare: Makes the other calls ready.
        """
        self._store = store
        self._committer = committer
        self._in_flight_log = in_flight_log
        self._clock = clock
        self._calls = dict(calls)
        self._skip = skip
        self._prepare = prepare

    async def __call__(self, call: Call, attempt: int) -> Call | None:
        """Return the call as it is to be sent; None when its row is written.

        Cancellation: safe; what is not ended yet is left for the next run.

        Raises:
            StorageError: The output folder can't be written.
        """
        if attempt == 1 and self._calls.get(call.id) == call.request_sha256:
            del self._calls[call.id]
            if self._take_kept(call) or self._left_alone(call):
                self._in_flight_log.ended(call.id)
                return None
        return await self._prepare(call, attempt)

    def _take_kept(self, call: Call) -> bool:
        """Give a call the answer that had arrived whole, if there is one."""
        kept = self._store.journaled_answer(call.id)
        if kept is None:
            return False
        reply = parse_answer(Answer(200, kept.envelope, kept.images))
        if not isinstance(reply, Reply):
            return False
        latency_s = max(0.0, (kept.finished_at - kept.sent_at).total_seconds())
        # It ends in this run: rows are in the order of finishing, and this run's sum has it.
        timing = Timing(kept.sent_at, self._clock.utc(), latency_s)
        self._committer.reply(Attempted(call, kept.attempt, timing), reply)
        self._store.remove_journaled(kept)
        return True

    def _left_alone(self, call: Call) -> bool:
        if not self._skip:
            return False
        now = self._clock.utc()
        message = "sent by a run that ended before the answer came; it may have been billed"
        failure = Failure(FailureKind.DISCONNECTED, message, may_be_billed=True)
        self._committer.error(Attempted(call, 0, Timing(now, now, 0.0)), Status.UNCERTAIN, failure)
        return True
