"""The expected tokens and cost of calls of one lane and size."""

from dataclasses import replace

from gemini_batch.catalog import prices
from gemini_batch.plan.planner import Planner
from gemini_batch.plan.sums import CallTotals
from gemini_batch.records import Estimate, ServiceTier
from gemini_batch.records.service_tier import model_and_tier


def priced(
    lane: str, size: str, group: CallTotals, planner: Planner, *, is_batched: bool
) -> CallTotals:
    """Return sums over calls with their expected output tokens and cost, in batches or not."""
    model, tier = model_and_tier(lane)
    expected = _estimate(model, "standard" if is_batched else tier, size, group, planner)
    cost_usd = expected.cost_usd if group.calls else 0.0
    if is_batched and cost_usd is not None:
        cost_usd *= _batch_factor(model, planner)
    return replace(group, output_tokens=expected.output_tokens, cost_usd=cost_usd)


def most_usd_in_batches(lane: str, size: str, group: CallTotals, planner: Planner) -> float:
    """Return the most that calls may cost in batches; 0 if their price is unknown."""
    model, _ = model_and_tier(lane)
    most = _estimate(model, "standard", size, group, planner)
    return ((most.cost_usd or 0.0) + most.max_extra_usd) * _batch_factor(model, planner)


def _estimate(
    model: str, service_tier: ServiceTier, size: str, group: CallTotals, planner: Planner
) -> Estimate:
    calls = group.calls
    return prices.estimate(
        model,
        size,
        calls=calls,
        input_tokens=group.input_tokens,
        thinking_tokens=calls * planner.thinking.mean(model) + group.thinking_tokens,
        searches=group.searches,
        service_tier=service_tier,
        prices=planner.prices,
    )


def _batch_factor(model: str, planner: Planner) -> float:
    return prices.factor(model, "batch", planner.prices) or 1.0
