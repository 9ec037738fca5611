"""Dispatcher: takes calls from the queue, admits them, sends them, and stops when it must.

A reason to stop is a value that closes the queue, or the lane of a model. Calls in flight are paid
for, so they are completed and written.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from gemini_batch.client.transport import Transport
from gemini_batch.engine.admission import AdmissionControl, Admitted, Closed, Deferred
from gemini_batch.engine.advice import advised
from gemini_batch.engine.call_queue import CallQueue
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.follow_up import FollowUp
from gemini_batch.engine.lanes import Attempt
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.engine.retry import RetryRules
from gemini_batch.engine.sender import Sender
from gemini_batch.errors import StorageError, describe_os_error, out_of_resources
from gemini_batch.events import Observer, Stopping
from gemini_batch.records import Stop, StopReason
from gemini_batch.records.stop import stop_of


@dataclass(kw_only=True, eq=False, repr=False)
class Dispatcher:
    """Sends the calls of one run.

    Attributes:
        is_parent: Returns whether other calls use the picture of a call: its row is made durable
            before it ends, so that they are ready then.
        stops: Why no more calls are started, of all models or of one, in the order of events.
    """

    queue: CallQueue
    preprocess: Preprocessor
    admission: AdmissionControl
    sender: Sender
    follow_up: FollowUp
    committer: Committer
    observe: Observer
    is_parent: Callable[[str], bool] = lambda _call_id: False
    stops: list[Stop] = field(default_factory=list, init=False)
    _run_stops: set[StopReason] = field(default_factory=set, init=False)
    _stopped_models: set[str] = field(default_factory=set, init=False)
    _bug: Exception | None = field(default=None, init=False)

    async def run(self, workers: int) -> None:
        """Send all calls, at most `workers` at a time, until something stops the run.

        Returns when all that was sent is written and durable.

        Cancellation: what is in flight may have been billed and is lost; all that was answered is
        written and made durable.
        """
        try:
            async with asyncio.TaskGroup() as background:
                durability = background.create_task(
                    self._guarded(self.committer.keep_durable), name="keep durable"
                )
                async with asyncio.TaskGroup() as group:
                    for number in range(workers):
                        group.create_task(self._guarded(self._work), name=f"worker {number}")
                durability.cancel()
        finally:
            await self._guarded(self.committer.flush)
        if self._bug is not None:
            raise self._bug

    def stop(self, stop: Stop) -> None:
        """Start no more calls, of one model or of all; calls in flight are completed."""
        stop = advised(stop, self.follow_up.rules.table)
        if stop.model:
            self._stop_model(stop)
        else:
            self._stop_run(stop)

    def _stop_model(self, stop: Stop) -> None:
        """Send nothing more of a model; if no other one is open, end the run."""
        if stop.model in self._stopped_models:
            return  # another call met the same before
        self._stopped_models.add(stop.model)
        self.queue.close_lane(self.queue.lanes[stop.model])
        is_last = not self.queue.open_lanes
        self.stops.append(stop)
        self.observe(Stopping(stop, self.sender.in_flight, "" if is_last else stop.model))
        if is_last:
            self._close()

    def _stop_run(self, stop: Stop) -> None:
        """End the run; the message names a server that can't be reached: it may be why."""
        if (reason := self.queue.server.reason) and stop.reason is not StopReason.OUTAGE:
            message = f"{stop.message}; the server can't be reached: {reason}"
            stop = replace(stop, message=message)
        self._close()
        if stop.reason not in self._run_stops:
            self._run_stops.add(stop.reason)
            self.stops.append(stop)
            self.observe(Stopping(stop, self.sender.in_flight))

    def _close(self) -> None:
        self.queue.close()
        self.admission.close()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Let a disk that fails, or a bug, end the run, but not what others have in flight."""
        try:
            await work()
        except StorageError as error:
            self.stop(stop_of(error))
        except OSError as error:
            message = f"the output folder can't be written: {describe_os_error(error)}"
            self.stop(Stop(StopReason.STORAGE, message))
        except Exception as bug:  # noqa: BLE001 # raised again when all is written
            if message := out_of_resources(bug):
                self.stop(Stop(StopReason.STORAGE, message))
                return
            self._bug = self._bug or bug
            self._close()

    async def _work(self) -> None:
        while (attempt := await self.queue.next()) is not None:
            if isinstance(attempt, Stop):
                self.stop(attempt)
                await asyncio.sleep(0)  # there may be one for each of many calls
                continue
            try:
                await self._attempt(attempt)
                if self.is_parent(attempt.call.id):
                    await self.committer.make_durable()
            finally:
                self.queue.ended(attempt)
            await self.committer.wait_for_disk()

    async def _attempt(self, attempt: Attempt) -> None:
        """Take one attempt from the queue to its row, or back into the queue."""
        if attempt.lane.is_closed:
            self.queue.leave(attempt)
            return
        if (call := await self.preprocess(attempt.call, attempt.number)) is None:
            return
        if call is not attempt.call:
            attempt = replace(attempt, call=call)
        match await self.admission.admit(attempt.lane, call):
            case Admitted() as admitted:
                with admitted.held:  # the disk space, until an error has its row as well
                    sent = await self.sender.send(attempt)
                    for stop in await self.follow_up(sent, admitted):
                        self.stop(stop)
            case Deferred(until_s):
                self.queue.defer(attempt, until_s)
            case Closed(stop):
                if stop is not None:
                    self.stop(stop)
                self.queue.leave(attempt)


def make_dispatcher(
    *,
    queue: CallQueue,
    preprocess: Preprocessor,
    admission: AdmissionControl,
    transport: Transport,
    committer: Committer,
    remote: RemoteReplies,
    rules: RetryRules,
    observe: Observer,
    is_parent: Callable[[str], bool] = lambda _call_id: False,
) -> Dispatcher:
    """Return a dispatcher whose parts share one queue, one committer and one observer."""
    return Dispatcher(
        queue=queue,
        preprocess=preprocess,
        admission=admission,
        sender=Sender(
            queue=queue,
            transport=transport,
            committer=committer,
            remote=remote,
            observe=observe,
            max_attempts=rules.max_attempts,
        ),
        follow_up=FollowUp(
            queue=queue, admission=admission, committer=committer, rules=rules, observe=observe
        ),
        committer=committer,
        observe=observe,
        is_parent=is_parent,
    )
