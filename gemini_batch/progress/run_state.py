"""What a run did so far and what it does now, counted event by event: cheap, for it is called on the event loop."""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from gemini_batch.events import (
    CallFinished,
    CallNotReused,
    CallRetrying,
    CallSent,
    Event,
    RunStarted,
    Stopping,
    Waiting,
)
from gemini_batch.progress import messages
from gemini_batch.progress.forecast import Course, Forecast, Pace, forecast, horizon_s
from gemini_batch.quota.limits import LimitSet, Weights
from gemini_batch.quota.model_quota import Used
from gemini_batch.records import Limits, Load, ResultRow, Status

# Troubles that are remembered: the last kinds of them.
_TROUBLES = 3
# About so many answers tell how long one takes.
_LATENCIES = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """What a view asks about once in a while.

    Attributes:
        in_flight: Requests that were sent and not answered.
        used: What counts against the limits of each model now, by all runs that share the quota; without those that could not be asked.
    """

    in_flight: int = 0
    used: Mapping[str, tuple[Used, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Attempts that gave nothing, for the same reason: how many, and when and by which call it was seen last."""

    words: str
    number: int
    call_id: str
    seen_s: float


@dataclass(frozen=True, slots=True)
class State:
    """A run at a moment, to be shown.

    Attributes:
        todo: Calls to be done in this run.
        by_status: Those that ended.
        left: Those that have not.
        elapsed_s: Since the run began to send.
        images_per_min: Of late; 0 while nothing is known.
        forecast: When it will be done.
        in_flight: Requests that were sent and not answered.
        again: Calls that are sent again later.
        waiting: The longest wait from now on; None when nothing waits.
        models: How many models the run uses.
        cost_usd: So far, at list price.
        unpriced: Calls of unknown cost that ended.
        projected_usd: At the end; None when a price is unknown.
        used: What counts against each limit, by model.
        troubles: The last kinds of trouble, the newest last.
        stopping: Why the run takes in no more calls; None while it does.
        now: The wall clock.
        now_s: The steady clock.
    """

    todo: int
    by_status: Mapping[Status, int]
    left: int
    elapsed_s: float
    images_per_min: float
    forecast: Forecast
    in_flight: int
    again: int
    waiting: Waiting | None
    models: int
    cost_usd: float
    unpriced: int
    projected_usd: float | None
    used: Mapping[str, tuple[Used, ...]]
    troubles: tuple[Trouble, ...]
    stopping: Stopping | None
    now: datetime
    now_s: float

    @property
    def is_stopping(self) -> bool:
        """Whether no more calls are taken in of any model."""
        return self.stopping is not None and not self.stopping.model


@dataclass(slots=True)
class _Model:
    """How one model's calls are getting on."""

    load: Load
    sent: Pace
    ended: Pace
    done: int = 0
    latency_s: float = 0.0

    def note(self, latency_s: float, now_s: float) -> None:
        """Count a call that ended; of its latency the last ones count the most."""
        self.done += 1
        self.ended.add(now_s)
        self.latency_s += (latency_s - self.latency_s) / min(self.done, _LATENCIES)


class RunState:
    """Counts a run; moments are of the steady clock.

    Args:
        limits: Of each model.
        waits_for_reset: Whether the run sleeps until a quota's next day.
    """

    def __init__(self, limits: Limits, *, waits_for_reset: bool = False) -> None:
        self._limits = limits
        self._waits_for_reset = waits_for_reset
        self._horizon_s = horizon_s(limits)
        self._cap_per_min = _cap_per_min(limits)
        self._started: RunStarted | None = None
        self._started_s = 0.0
        self._by_status: Counter[Status] = Counter()
        self._models: dict[str, _Model] = {}
        lately_s = max(60.0, 3 * limits.minute_s)
        self._images, self._sent = Pace(lately_s), Pace(lately_s)
        self._cost_usd, self._unpriced, self._reused = 0.0, 0, 0
        self._again = 0
        self._waits: dict[
            str, tuple[Waiting, float]
        ] = {}  # of each model the last one, and until when
        self._troubles: OrderedDict[str, Trouble] = OrderedDict()
        self._stopping: Stopping | None = None
        self._sample = Sample()

    @property
    def finished(self) -> int:
        """How many calls ended."""
        return sum(self._by_status.values())

    def observe(self, event: Event, now_s: float) -> None:
        """Take in what happened."""
        match event:
            case RunStarted():
                self._started, self._started_s = event, now_s
                self._models = {
                    model: _Model(load, Pace(self._horizon_s), Pace(self._horizon_s))
                    for model, load in event.loads.items()
                }
            case CallSent():
                self._sent.add(now_s)
                self._again = max(0, self._again - (event.attempt > 1))
                if event.model in self._models:
                    self._models[event.model].sent.add(now_s)
            case CallFinished(row):
                self._finished(row, now_s)
            case CallRetrying():
                self._again += 1
                self._trouble(messages.retrying(event), event.call_id, now_s)
            case CallNotReused():
                self._trouble(event.message, event.call_id, now_s)
            case Waiting():
                self._waits[event.model] = (event, now_s + event.wait_s)
            case Stopping():
                self._sample = replace(self._sample, in_flight=event.in_flight)
                # That one model's day is over is no news when all of them are stopping.
                if not event.model or self._stopping is None or self._stopping.model:
                    self._stopping = event
            case _:
                pass

    def take(self, sample: Sample) -> None:
        """Take in what was asked about."""
        self._sample = sample

    def _finished(self, row: ResultRow, now_s: float) -> None:
        self._by_status[row.status] += 1
        self._images.add(now_s, len(row.images) if row.status is Status.SUCCEEDED else 0)
        self._cost_usd += row.cost_usd or 0.0
        self._unpriced += row.cost_usd is None
        if row.reused_from is not None:
            self._reused += 1
        elif row.model in self._models:
            self._models[row.model].note(row.latency_s, now_s)

    def _trouble(self, words: str, call_id: str, now_s: float) -> None:
        before = self._troubles.pop(words, None)
        self._troubles[words] = Trouble(words, before.number + 1 if before else 1, call_id, now_s)
        if len(self._troubles) > _TROUBLES:
            self._troubles.popitem(last=False)

    # --- at a moment --------------------------------------------------------------------------------------------------

    def state(self, now_s: float, now: datetime) -> State:
        """Return the run as it stands."""
        todo = self._started.todo + self._started.reused if self._started else 0
        return State(
            todo=todo,
            by_status=dict(self._by_status),
            left=max(0, todo - self.finished),
            elapsed_s=now_s - self._started_s,
            images_per_min=self._images_per_min(now_s),
            forecast=self.forecast(now_s),
            in_flight=self._sample.in_flight,
            again=self._again,
            waiting=self._longest_wait(now_s),
            models=len(self._models),
            cost_usd=self._cost_usd,
            unpriced=self._unpriced,
            projected_usd=self._projected_usd(),
            used=self._sample.used,
            troubles=tuple(self._troubles.values()),
            stopping=self._stopping,
            now=now,
            now_s=now_s,
        )

    def forecast(self, now_s: float) -> Forecast:
        """Return when the run will be done."""
        courses = [self._course(name, model, now_s) for name, model in self._models.items()]
        return forecast(courses, self._limits, waits_for_reset=self._waits_for_reset)

    def _course(self, name: str, model: _Model, now_s: float) -> Course:
        left = max(0, model.load.calls - model.done)
        in_flight = self._sample.in_flight if len(self._models) == 1 else 0
        # Before the first wave of answers is in, their number says little of how fast they come.
        is_known = model.done >= max(1, min(left, in_flight))
        return Course(
            left=left,
            unsent=max(0, left - in_flight),
            weights=Weights.average(model.load),
            sent=model.sent.recent(now_s),
            ended=model.ended.recent(now_s)[0] if is_known else 0,
            latency_s=model.latency_s,
            used=self._sample.used.get(name, ()),
        )

    def _images_per_min(self, now_s: float) -> float:
        number, since_s = self._images.recent(now_s)[0], self._sent.recent(now_s)[1]
        if not since_s:
            return 0.0
        # What a quota lets by in its first seconds is no pace to be kept.
        return min(number * 60 / since_s, self._cap_per_min * max(1, len(self._models)))

    def _longest_wait(self, now_s: float) -> Waiting | None:
        told, until_s = max(self._waits.values(), key=lambda wait: wait[1], default=(None, 0.0))
        return replace(told, wait_s=until_s - now_s) if told and until_s > now_s else None

    def _projected_usd(self) -> float | None:
        if self._started is None or self._started.cost_usd is None:
            return None
        own = self.finished - self._reused
        left = max(0, self._started.todo - own)
        return self._cost_usd + self._started.cost_usd * left / max(1, self._started.todo)


def _cap_per_min(limits: Limits) -> float:
    """Return the most calls of a model in a minute of 60 s."""
    calls = LimitSet.of(limits).calls_a_minute
    return math.inf if calls is None else calls * 60 / limits.minute_s
