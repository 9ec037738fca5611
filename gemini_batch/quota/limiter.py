"""The rate limiter: asks the ledger, sleeps until the granted moment, and checks the grant."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeAlias, TypeVar, assert_never

from gemini_batch.clock import Clock
from gemini_batch.quota.estimates import UsageRatio
from gemini_batch.quota.limits import LimitSet, Weights, limits_of
from gemini_batch.quota.line import Line, Ticket, unless, until_stop_or
from gemini_batch.quota.results import DayClosed, Grant, Granted, Paused, RealUse
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.records import Limits
from gemini_batch.records.service_tier import quota_name

P = ParamSpec("P")
T = TypeVar("T")

OnWait: TypeAlias = Callable[[str, float, str], None]
"""Called before each sleep: model, end on the steady clock, reason ("60 requests a minute")."""


class RateLimiter:
    """Admits requests one by one, when and only when the ledger grants it.

    The ledger guarantees, `aiolimiter` only smooths: it spreads a minute's quota over a sixth of a
    minute. Quotas do not wait for each other. Without a limit nothing waits. Where answers use more
    tokens or dollars than estimated, later calls are counted with as much more.
    """

    def __init__(
        self, ledger: SharedLedger, limits: Limits, clock: Clock, on_wait: OnWait | None = None
    ) -> None:
        """Make a limiter, which needs no closing, for a ledger with the same limits and clock.

        `on_wait` is called before each sleep that the ledger asks for; it must not raise.
        """
        self._ledger = ledger
        self._clock = clock
        self._on_wait = on_wait
        self._limits = limits
        counted = (limits.tokens_per_min, limits.usd_per_10min, limits.usd_per_day)
        self._reconciles = any(limit is not None for limit in counted)
        self._tokens, self._usd_micros = UsageRatio(), UsageRatio()
        self._lines: dict[str, Line] = {}
        self._uses: dict[str, list[RealUse]] = {}

    async def acquire(
        self, model: str, weights: Weights, stop: asyncio.Event
    ) -> Grant | DayClosed | None:
        """Wait until one request may be sent.

        The caller sends at once and awaits nothing in between: the grant holds only for a moment.

        Returns:
            The grant; `DayClosed` when today has no room; None when `stop` was set, which makes
            its caller return at once, and the day of a reservation that is left without callers
            gets it back.

        Raises:
            ValueError: The request is larger than a limit.

        Cancellation: safe. A reservation goes to the next in line if its weights are the same; else
        only its slot is spent.
        """
        line = self._line(model)
        ticket = Ticket(weights)
        line.tickets.append(ticket)
        found = None
        try:
            if line.tickets[0] is not ticket:
                await until_stop_or(None, stop, ticket)
            if not stop.is_set() and await self._pace(line, stop):
                found = await self._go(line, weights, stop)
        finally:
            line.leave(ticket)
        if found is None and not line.tickets:
            await self._give_back(line)
        return found

    async def pause(self, model: str, wait_s: float, why: str, *, overrun: bool = False) -> None:
        """Send nothing of a model for some seconds; reservations that were not used are spent.

        A longer pause remains. `why` is a phrase for the user. After an `overrun`, a 429
        of the minute, the ledger uses a wider guard for a while.

        Cancellation: safe; the ledger is paused anyway.
        """
        self._line(model).reserved = None
        now_s = self._clock.steady_s()
        await self._ask(self._ledger.pause, model, now_s + wait_s, why, now_s, overrun=overrun)

    async def close_day(
        self, model: str, grant: Grant | None = None, ends_in_s: float | None = None
    ) -> None:
        """Send nothing more of a model on the date of `grant`, whose answer said so, or else today.

        With `ends_in_s` the server's day ends after that time, not at midnight.

        Cancellation: safe; the day is closed anyway.
        """
        self._line(model).reserved = None
        now_s, utc = self._clock.steady_s(), self._clock.utc()
        await self._ask(self._ledger.close_day, model, now_s, utc, grant, ends_in_s)

    async def reconcile(
        self,
        model: str,
        grant: Grant,
        *,
        tokens: int | None = None,
        usd_micros: int | None = None,
        estimated: Weights | None = None,
    ) -> None:
        """Replace the reserved weights of a call by its real use; None leaves them.

        Does nothing where no limit counts it. On a server the calls of a tenth of a second are
        written together, by the first of them; the others do not wait. With the `estimated`
        weights, later calls of the model are expected to use as much more.

        Cancellation: safe; the ledger is corrected anyway.
        """
        if self._reconciles:
            model = quota_name(model)
            if estimated and tokens is not None:
                self._tokens.note(model, estimated.tokens, tokens)
            if estimated and usd_micros is not None:
                self._usd_micros.note(model, estimated.usd_micros, usd_micros)
            await self._collect(model, RealUse(grant, tokens, usd_micros))

    async def refund(self, model: str, grant: Grant) -> None:
        """Return a grant whose request never left to its day.

        Cancellation: safe; the ledger is corrected anyway.
        """
        await self._ask(self._ledger.refund, model, grant)

    async def _collect(self, model: str, use: RealUse) -> None:
        """Add a use to those that are written soon, or begin to collect and write them."""
        if uses := self._uses.get(model):
            uses.append(use)
            return
        self._uses[model] = uses = [use]
        try:
            if self._ledger.group_s:
                await asyncio.sleep(self._ledger.group_s)
        finally:
            del self._uses[model]
            await self._ask(self._ledger.reconcile_all, model, uses)

    async def _go(
        self, line: Line, weights: Weights, stop: asyncio.Event
    ) -> Grant | DayClosed | None:
        """Return the decision of the ledger, after its wait; None when `stop` was set.

        Nothing is awaited between the last check of a grant and the return.
        """
        while not stop.is_set():
            reserved, now_s = line.reserved, self._clock.steady_s()
            expected = self._expected(line, weights)
            if reserved is None:
                if (closed := await self._reserve(line, expected, stop)) is not None:
                    return closed
            elif reserved.grant.weights != expected:
                await self._give_back(line)
            elif now_s > reserved.grant.expires_at_s:
                line.reserved = None
            elif now_s < reserved.grant.at_s:
                await self._sleep(line, reserved.grant.at_s, reserved.why, stop)
                line.holds = False
            elif not line.holds:
                await self._check(line, reserved, now_s)
            else:
                left = reserved.permits - 1
                line.reserved = replace(reserved, permits=left) if left else None
                return reserved.grant
        return None

    async def _give_back(self, line: Line) -> None:
        """Return a reservation that no one uses to its day; its slot stays spent."""
        reserved, line.reserved = line.reserved, None
        if reserved is not None:
            await self._ask(self._ledger.refund, line.model, reserved.grant, reserved.permits)

    async def _reserve(self, line: Line, weights: Weights, stop: asyncio.Event) -> DayClosed | None:
        """Make a reservation, or sleep through a pause, or return that the day is over."""
        permits = line.alike()
        now_s, utc = self._clock.steady_s(), self._clock.utc()
        result = await self._ask(self._ledger.reserve, line.model, weights, permits, now_s, utc)
        match result:
            case Granted():
                line.reserved, line.holds = result, not result.why
            case Paused():
                await self._sleep(line, result.until_s, result.why, stop)
            case DayClosed():
                return result
            case _:
                assert_never(result)
        return None

    def _expected(self, line: Line, weights: Weights) -> Weights:
        """Return the use of a call that recent answers suggest, at most the limits."""
        if not self._reconciles:
            return weights
        tokens = self._tokens.expected(line.model, weights.tokens)
        usd_micros = self._usd_micros.expected(line.model, weights.usd_micros)
        return replace(
            weights,
            tokens=max(weights.tokens, line.bounds.clamped("tokens", tokens)),
            usd_micros=max(weights.usd_micros, line.bounds.clamped("usd_micros", usd_micros)),
        )

    async def _check(self, line: Line, reserved: Granted, now_s: float) -> None:
        """Drop a reservation that is late, or was paused meanwhile, perhaps by another process."""
        line.holds, holds, utc = True, False, self._clock.utc()
        try:
            holds = await self._ask(
                self._ledger.holds, line.model, reserved.grant, now_s, reserved.permits, utc
            )
        finally:
            # Also after a cancellation: the ledger may have cancelled it anyway.
            if line.reserved is reserved and not holds:
                line.reserved = None

    async def _pace(self, line: Line, stop: asyncio.Event) -> bool:
        """Wait for the token bucket; return False when `stop` was set first."""
        if line.limiter is None:
            return True
        if line.limiter.has_capacity():
            await line.limiter.acquire()  # does not wait
            return True
        return await unless(stop, line.limiter.acquire())

    async def _sleep(self, line: Line, until_s: float, why: str, stop: asyncio.Event) -> None:
        """Sleep until a moment of the steady clock, or until `stop` is set."""
        if self._on_wait:
            self._on_wait(line.model, until_s, why)
        await until_stop_or(until_s - self._clock.steady_s(), stop)

    async def _ask(self, method: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Ask the ledger: in a thread if it may block, else without yielding to the loop."""
        return await self._ledger.ask(self._clock, partial(method, *args, **options))

    def _line(self, lane: str) -> Line:
        quota = quota_name(lane)
        if quota not in self._lines:
            from aiolimiter import AsyncLimiter  # a run that sends nothing does not need it

            bounds = LimitSet.of(limits_of(self._limits, quota))
            limiter = AsyncLimiter(1, bounds.gap_s) if bounds.gap_s else None
            self._lines[quota] = Line(quota, bounds, limiter)
        return self._lines[quota]
