"""Cut: calls of one model become chunks, each small enough for one batch and for the budget."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from uuid import uuid4

from gemini_batch.catalog import batch_limits, prices
from gemini_batch.client import request_json
from gemini_batch.config import Settings
from gemini_batch.engine.batch import shares
from gemini_batch.engine.batch.shares import Share
from gemini_batch.engine.budget import Budget, Reservation, used_up
from gemini_batch.output.batch_note import key_of
from gemini_batch.records import Call, Estimate, Stop


@dataclass(eq=False, slots=True)
class Chunk:
    """The calls of one batch, until it is created.

    Attributes:
        money: What is held for each call.
    """

    model: str
    uuid: str = field(default_factory=lambda: uuid4().hex)
    calls: list[Call] = field(default_factory=list)
    money: list[Reservation] = field(default_factory=list)
    share: Share = shares.EMPTY_SHARE

    def key(self, position: int) -> str:
        """Return the key of a call."""
        return key_of(self.uuid, position, self.calls[position].request_sha256)


@dataclass(kw_only=True, eq=False, repr=False)
class Cutter:
    """Cuts calls into chunks, in their order, and holds the money for them."""

    config: Settings
    budget: Budget
    price_table: prices.PriceTable

    async def chunks(
        self, model: str, calls: AsyncIterator[Call | Stop]
    ) -> AsyncIterator[Chunk | Stop]:
        """Yield the chunks; a `Stop` comes last, where the budget or the calls end early.

        Cancellation: safe.
        """
        tokens = batch_limits.enqueued_tokens(model, self.config.tier)
        most = shares.most(self.config.batch_lines, tokens)
        chunk = Chunk(model)
        async for call in calls:
            stop = call if isinstance(call, Stop) else None
            if isinstance(call, Call):
                size = _share(chunk, call)
                if chunk.calls and not (chunk.share + size).fits(most):
                    yield chunk
                    chunk = Chunk(model)
                    size = _share(chunk, call)
                estimate = self.estimate(call)
                money = self.budget.reserve(model, estimate, in_batch=True)
                if money is not None:
                    chunk.calls.append(call)
                    chunk.money.append(money)
                    chunk.share += size
                    continue
                stop = used_up(self.budget, model, estimate)
            if chunk.calls:
                yield chunk
            if stop is not None:
                yield stop
            return
        if chunk.calls:
            yield chunk

    def without(self, chunk: Chunk, positions: frozenset[int]) -> Chunk:
        """Return a new chunk without some calls, whose money is returned."""
        rest = Chunk(chunk.model)
        for position, (call, money) in enumerate(zip(chunk.calls, chunk.money, strict=True)):
            if position in positions:
                self.budget.settle(money)
                continue
            rest.share += _share(rest, call)
            rest.calls.append(call)
            rest.money.append(money)
        return rest

    def give_up(self, chunk: Chunk) -> None:
        """Return the money of a chunk that is not sent."""
        for money in chunk.money:
            self.budget.settle(money)

    def estimate(self, call: Call) -> Estimate:
        """Return the expected usage of a call at the price of a batch."""
        factor = prices.factor(call.request.model, "batch", self.price_table) or 1.0
        usual = call.estimate
        return replace(
            usual,
            cost_usd=None if usual.cost_usd is None else usual.cost_usd * factor,
            extra_usd=usual.extra_usd * factor,
            max_extra_usd=usual.max_extra_usd * factor,
            standard_usd=None,
        )


def _share(chunk: Chunk, call: Call) -> Share:
    """Return what a call takes as the next one of a chunk."""
    key = key_of(chunk.uuid, len(chunk.calls), call.request_sha256)
    return Share(
        1,
        request_json.content_length(request_json.line(key, call.request)),
        shares.line_bytes(call.image_size),
        call.estimate.input_tokens,
    )
