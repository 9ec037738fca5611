"""The state of a run, counted event by event. Cheap: it is called on the event loop."""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from gemini_batch import events
from gemini_batch.catalog.observations import Observations
from gemini_batch.progress.forecast import Forecast, ModelProgress, Pace, forecast, horizon_s
from gemini_batch.quota.limits import LimitSet, Weights
from gemini_batch.records import Limits, Load, Status
from gemini_batch.records.service_tier import quota_name

if TYPE_CHECKING:
    from gemini_batch.quota.results import Used
    from gemini_batch.records import ResultRow

# Kinds of errors that are kept, the most recent ones.
_MAX_ERRORS = 3
# Answers over which the latency is averaged.
_LATENCIES = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """Values that a view requests from the run at its interval.

    Attributes:
        used: Usage of each limit by model, of all runs that share the quota; without the unknown.
    """

    in_flight: int = 0
    used: "Mapping[str, tuple[Used, ...]]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecentError:
    """Attempts that failed for the same reason: their number, and when and in which call last."""

    message: str
    number: int
    call_id: str
    seen_s: float


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """The state of a run at one moment.

    Attributes:
        todo: Calls to be done in this run; `left` of them have not ended.
        elapsed_s: Since the run began to send.
        images_per_min: Recent pace; 0 while unknown.
        waiting: The longest wait from now on; None if no model waits.
        unpriced: Calls of unknown cost that ended.
        projected_usd: At the end; None if a price is unknown.
        max_cost_usd: The budget; None for none.
        errors: The most recent kinds of errors, the newest last.
        batches: The open batches as they were last seen, the oldest first.
        stopping: Why the run, or a model, starts no more calls; None while it does.
    """

    todo: int
    by_status: Mapping[Status, int]
    left: int
    elapsed_s: float
    images_per_min: float
    forecast: Forecast
    in_flight: int
    to_retry: int
    waiting: events.Waiting | None
    models: int
    cost_usd: float
    unpriced: int
    projected_usd: float | None
    max_cost_usd: float | None
    used: "Mapping[str, tuple[Used, ...]]"
    errors: tuple[RecentError, ...]
    batches: tuple[events.BatchSeen, ...]
    stopping: events.Stopping | None
    now: datetime
    now_s: float

    @property
    def is_stopping(self) -> bool:
        """True if no model starts any more calls."""
        return self.stopping is not None and not self.stopping.model


@dataclass(slots=True)
class _Model:
    """Counts the calls of one model."""

    load: Load
    sent: Pace
    ended: Pace
    done: int = 0
    # Cost of each answer with an image, as a share of its estimate.
    cost_ratios: Observations = field(default_factory=Observations)
    latency_s: float = 0.0  # a moving average


class RunState:
    """Counts the events of a run; times are of the steady clock."""

    def __init__(self, limits: Limits, *, waits_for_reset: bool = False) -> None:
        self._limits = limits
        self._waits_for_reset = waits_for_reset
        self._horizon_s = horizon_s(limits)
        a_minute = LimitSet.of(limits).calls_a_minute
        self._max_per_min = math.inf if a_minute is None else a_minute * 60 / limits.minute_s
        self._started: events.RunStarted | None = None
        self._started_s = 0.0
        self._by_status: Counter[Status] = Counter()
        self._models: dict[str, _Model] = {}
        lately_s = max(60.0, 3 * limits.minute_s)
        self._images, self._sent = Pace(lately_s), Pace(lately_s)
        self._cost_usd, self._unpriced = 0.0, 0
        self._to_retry: set[str] = set()  # ids
        # The last wait of each model, and until when.
        self._waits: dict[str, tuple[events.Waiting, float]] = {}
        self._errors: OrderedDict[str, RecentError] = OrderedDict()
        self._batches: dict[str, events.BatchSeen] = {}
        self._submitted: set[str] = set()  # the batches of this run
        self._waited = 0  # calls of other batches that have ended
        self._stopping: events.Stopping | None = None
        self._sample = Sample()

    def observe(self, event: events.Event, now_s: float) -> None:
        """Record an event."""
        match event:
            case events.RunStarted():
                self._started, self._started_s = event, now_s
                self._models = {
                    model: _Model(load, Pace(self._horizon_s), Pace(self._horizon_s))
                    for model, load in event.loads.items()
                }
            case events.CallSent():
                self._call_sent(event, now_s)
            case events.CallFinished(row):
                self._finished(row, event.estimated_usd, event.lane or row.model, now_s)
            case events.CallRetrying():
                self._to_retry.add(event.call_id)
                self._add_error(f"{event.reason}: {event.message}", event.call_id, now_s)
            case events.ModelReplaced():
                self._replace_model(event.model, event.successor)
            case events.CallNotReused() | events.CallHeld():
                self._add_error(event.message, event.call_id, now_s)
            case events.BatchSeen():
                self._batch_seen(event)
            case events.Waiting():
                self._waits[event.model] = (event, now_s + event.wait_s)
            case events.Stopping():
                self._stop(event)

    def _stop(self, event: events.Stopping) -> None:
        self._sample = replace(self._sample, in_flight=event.in_flight)
        # A stop of the whole run is not replaced by that of one model.
        if not event.model or self._stopping is None or self._stopping.model:
            self._stopping = event

    def _batch_seen(self, event: events.BatchSeen) -> None:
        if event.is_new:
            self._submitted.add(event.batch)
        self._batches.pop(event.batch, None)
        if not event.is_over:
            self._batches[event.batch] = event

    def _call_sent(self, event: events.CallSent, now_s: float) -> None:
        self._sent.add(now_s)
        self._to_retry.discard(event.call_id)
        if model := self._models.get(event.model):
            model.sent.add(now_s)

    def update(self, sample: Sample) -> None:
        """Record a sample."""
        self._sample = sample

    def _finished(
        self, row: "ResultRow", estimated_usd: float | None, lane: str, now_s: float
    ) -> None:
        self._by_status[row.status] += 1
        self._images.add(now_s, len(row.images) if row.status is Status.SUCCEEDED else 0)
        self._cost_usd += row.cost_usd or 0.0
        self._unpriced += row.cost_usd is None
        if row.reused_from is not None:
            return
        if row.batch is not None and row.batch.name not in self._submitted:
            self._waited += 1
        elif model := self._models.get(lane):
            model.done += 1
            if row.images and row.cost_usd is not None and estimated_usd:
                model.cost_ratios.add(row.cost_usd / estimated_usd)
            model.ended.add(now_s)
            model.latency_s += (row.latency_s - model.latency_s) / min(model.done, _LATENCIES)

    def _replace_model(self, model: str, successor: str) -> None:
        """Count the calls of a model that is gone with those of its successor."""
        if (old := self._models.pop(model, None)) is None:
            return
        new = self._models.setdefault(successor, old)
        if new is not old:
            new.load += old.load
            new.done += old.done

    def _add_error(self, message: str, call_id: str, now_s: float) -> None:
        before = self._errors.pop(message, None)
        number = before.number + 1 if before else 1
        self._errors[message] = RecentError(message, number, call_id, now_s)
        if len(self._errors) > _MAX_ERRORS:
            self._errors.popitem(last=False)

    def snapshot(self, now_s: float, now: datetime) -> RunSnapshot:
        """Return the state of the run."""
        start = self._started
        todo = start.todo + start.reused + start.waiting if start else 0
        return RunSnapshot(
            todo=todo,
            by_status=dict(self._by_status),
            left=max(0, todo - self._by_status.total() + self._by_status[Status.LATE]),
            elapsed_s=now_s - self._started_s,
            images_per_min=self._images_per_min(now_s),
            forecast=forecast(
                [self._progress(name, model, now_s) for name, model in self._models.items()],
                self._limits,
                waits_for_reset=self._waits_for_reset,
            ),
            in_flight=self._sample.in_flight,
            to_retry=len(self._to_retry),
            waiting=self._longest_wait(now_s),
            models=len(self._models),
            cost_usd=self._cost_usd,
            unpriced=self._unpriced,
            projected_usd=self._projected_usd(),
            max_cost_usd=self._started.max_cost_usd if self._started else None,
            used=self._sample.used,
            errors=tuple(self._errors.values()),
            batches=tuple(sorted(self._batches.values(), key=lambda batch: batch.since)),
            stopping=self._stopping,
            now=now,
            now_s=now_s,
        )

    def _progress(self, name: str, model: _Model, now_s: float) -> ModelProgress:
        left = max(0, model.load.calls - model.done)
        in_flight = self._sample.in_flight if len(self._models) == 1 else 0
        # Until the first calls in flight are answered, their number says little about the pace.
        is_known = model.done >= max(1, min(left, in_flight))
        return ModelProgress(
            left=left,
            unsent=max(0, left - in_flight),
            weights=Weights.average(model.load),
            sent=model.sent.recent(now_s),
            ended=model.ended.recent(now_s)[0] if is_known else 0,
            latency_s=model.latency_s,
            used=self._sample.used.get(quota_name(name), ()),
            lane=name,
        )

    def _images_per_min(self, now_s: float) -> float:
        number, since_s = self._images.recent(now_s)[0], self._sent.recent(now_s)[1]
        if not since_s:
            return 0.0
        # The pace of the first seconds of a window cannot be sustained.
        return min(number * 60 / since_s, self._max_per_min * max(1, len(self._models)))

    def _longest_wait(self, now_s: float) -> events.Waiting | None:
        last, until_s = max(self._waits.values(), key=lambda wait: wait[1], default=(None, 0.0))
        return replace(last, wait_s=until_s - now_s) if last and until_s > now_s else None

    def _projected_usd(self) -> float | None:
        if self._started is None or self._started.cost_usd is None:
            return None
        awaited = max(0, self._started.waiting - self._waited) / max(1, self._started.waiting)
        left_usd = sum(map(_left_usd, self._models.values()))
        return self._cost_usd + left_usd + awaited * self._started.waiting_usd


def _left_usd(model: _Model) -> float:
    """Return the expected cost of the calls that are left, by the plan and by the answers."""
    calls = max(1, model.load.calls)
    each_usd = (model.load.cost_usd or 0.0) / calls
    return max(0, calls - model.done) * each_usd * model.cost_ratios.mean(1.0)
