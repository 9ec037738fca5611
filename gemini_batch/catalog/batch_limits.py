"""Limits of the Batch API; the data is in `batch_limits.toml`."""

from functools import cache
from typing import Any

from gemini_batch.catalog import built_in_table, models


@cache
def _table() -> dict[str, Any]:
    return built_in_table("batch_limits.toml")


def enqueued_tokens(model: str, tier: str) -> int:
    """Return the input tokens that a project may have enqueued for a model, over all batches.

    For a model or a tier without a number it is the smallest that is known.
    """
    of_models: dict[str, dict[str, int]] = _table()["enqueued_tokens"]
    known = next((of_models[each] for each in sorted(models.same(model)) if each in of_models), {})
    least = min(min(of_tiers.values()) for of_tiers in of_models.values())
    return known.get(tier, min(known.values(), default=least))


def concurrent_batches() -> int:
    """Return how many batches of a project may be open at a time."""
    return int(_table()["concurrent_batches"])
