"""Service tiers that a model, or the place that serves it, does not have. Pure."""

from gemini_batch.catalog import models
from gemini_batch.catalog.prices import PriceTable, tier_factor
from gemini_batch.records import ServiceTier
from gemini_batch.wording import shown


def fault(
    model: str, tier: ServiceTier, prices: PriceTable, *, is_regional: bool = False
) -> str | None:
    """Return why a model can't be called in a service tier, for the user; None if it can.

    `is_regional`: at a location of Vertex AI other than global, where there is no flex
    (https://cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo, collected 2026-11-30).
    """
    known = models.find(model)
    if known and tier in known.refuses:
        advice = 'choose another model, or "standard" for this job'
        return f"got {shown(tier)}, which {model} does not have: {advice}"
    if is_regional and tier == "flex":
        place = "Vertex AI has at the location global alone"
        return f"got {shown(tier)}, which {place}: --vertex PROJECT, or leave it out"
    if tier_factor(model, tier, prices) is None:
        found = f"got {shown(tier)}, and its price for {model} is unknown"
        advice = f'set {tier}_factor in [prices."{model}"] of a --config file if it has it'
        return f"{found}: {advice}"
    return None
