"""The expected tokens and cost of calls of one lane and size."""

from dataclasses import replace

from gemini_batch.catalog import prices
from gemini_batch.plan.planner import Planner
from gemini_batch.plan.sums import CallTotals
from gemini_batch.records.service_tier import model_and_tier


def priced(
    lane: str, size: str, group: CallTotals, planner: Planner, *, is_batched: bool
) -> CallTotals:
    """Return sums over calls with their expected output tokens and cost, in batches or not."""
    calls = group.calls
    model, tier = model_and_tier(lane)
    expected = prices.estimate(
        model,
        size,
        calls=calls,
        input_tokens=group.input_tokens,
        thinking_tokens=calls * planner.thinking.mean(model) + group.thinking_tokens,
        searches=group.searches,
        service_tier="standard" if is_batched else tier,
        prices=planner.prices,
    )
    cost_usd = expected.cost_usd if calls else 0.0
    if is_batched and cost_usd is not None:
        cost_usd *= prices.factor(model, "batch", planner.prices) or 1.0
    return replace(group, output_tokens=expected.output_tokens, cost_usd=cost_usd)
