"""Prices of the service tiers and of searches."""

import pytest

from gemini_batch.catalog.prices import (
    SEARCH_USD,
    ModelPrice,
    PriceTable,
    booked_factor,
    built_in,
    cost_usd,
    estimate,
    merged,
    scaled,
)
from gemini_batch.records import ServiceTier, Usage

PRO, FLASH, NANO = "gemini-3-pro-image", "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
STANDARD_USD = (1000 * 2 + 1120 * 120 + 300 * 12) / 1e6
USAGE = Usage(1000, None, None, 2420)


def estimated(tier: ServiceTier, model: str = PRO, table: PriceTable | None = None) -> float | None:
    """Return the estimate of a call with a thousand tokens in."""
    found = estimate(model, input_tokens=1000, thinking_tokens=300, service_tier=tier, prices=table)
    return found.cost_usd


@pytest.mark.parametrize(("tier", "times"), [("standard", 1.0), ("flex", 0.5), ("priority", 1.8)])
def test_a_tier_multiplies_all_rates(tier: ServiceTier, times: float) -> None:
    """Prompt, image and thinking cost so many times as much; what is reserved is the most of asked and standard."""
    found = estimate(PRO, input_tokens=1000, thinking_tokens=300, service_tier=tier)
    assert found.cost_usd == pytest.approx(STANDARD_USD * times)
    assert found.reserved_usd == pytest.approx(STANDARD_USD * max(times, 1.0))
    worst = estimate(PRO, input_tokens=1000, thinking_tokens=300)
    assert found.extra_usd == pytest.approx(worst.extra_usd * max(times, 1.0))
    assert found.max_extra_usd == pytest.approx(worst.max_extra_usd * max(times, 1.0))


@pytest.mark.parametrize("model", [FLASH, NANO])
def test_flex_without_a_price_is_expected_to_cost_as_standard(model: str) -> None:
    """Flex never costs more, so that is the most; a priority without a price is unknown."""
    assert estimated("flex", model) == estimated("standard", model) is not None
    assert estimated("priority", model) is None


def test_a_users_factors_count() -> None:
    """A config file gives the tiers of a model of its own, and changes those of a known one."""
    table = merged(built_in(), {PRO: {"flex_factor": 0.4}, NANO: {"priority_factor": 3}})
    assert estimated("flex", PRO, table) == pytest.approx(STANDARD_USD * 0.4)
    assert estimated("priority", NANO, table) == pytest.approx(
        3 * (estimated("standard", NANO) or 0)
    )


BOOKED: list[tuple[ServiceTier, str | None, float]] = [
    ("standard", "standard", 1.0),
    ("standard", None, 1.0),
    ("standard", "priority", 1.8),
    ("flex", "flex", 0.5),
    ("flex", "standard", 1.0),
    ("flex", None, 1.0),
    ("flex", "deferred", 1.0),
    ("priority", "priority", 1.8),
    ("priority", "standard", 1.0),
    ("priority", None, 1.8),
    ("priority", "provisioned_throughput", 1.8),
]


@pytest.mark.parametrize(("asked", "served", "times"), BOOKED)
def test_an_answer_costs_what_was_served(
    asked: ServiceTier, served: str | None, times: float
) -> None:
    """The tier that was served decides; without its name, the more expensive of asked and standard."""
    found = booked_factor(PRO, asked, served)
    assert found == times
    assert cost_usd(PRO, USAGE, 1, times=found) == pytest.approx(STANDARD_USD * times)


def test_a_served_tier_without_a_price_is_no_bargain() -> None:
    """A model that has no price for what it says it served costs as standard at least."""
    assert booked_factor(FLASH, "standard", "flex") == 1.0
    assert booked_factor(FLASH, "standard", "priority") == 1.0
    assert booked_factor("unheard-of", "priority", None) == 1.0


def test_zero_usage_costs_the_image_in_the_tier_served() -> None:
    """Where the counts can't be true, the list price of the image is taken as often as the tier says."""
    zero = Usage(0, 0, 0, 0)
    image_usd = (7 * 2 + 1120 * 120) / 1e6
    for served, times in (("flex", 0.5), ("standard", 1.0), (None, 1.0)):
        found = booked_factor(PRO, "flex", served)
        assert cost_usd(PRO, zero, 1, input_tokens=7, times=found) == pytest.approx(
            image_usd * times
        )


def test_searches_cost_the_same_in_any_tier() -> None:
    """$14 for 1,000 queries are added to the tokens, and no tier multiplies them."""
    assert SEARCH_USD * 1000 == 14
    for tier in ("standard", "flex", "priority"):
        with_searches = estimate(PRO, searches=30, calls=3, service_tier=tier)
        without = estimate(PRO, calls=3, service_tier=tier)
        assert with_searches.cost_usd == pytest.approx((without.cost_usd or 0) + 0.42)
        assert with_searches.reserved_usd == pytest.approx(without.reserved_usd + 0.42)
    assert cost_usd(PRO, USAGE, 1, searches=3, times=0.5) == pytest.approx(STANDARD_USD / 2 + 0.042)


def test_a_blocked_answer_costs_its_searches() -> None:
    """An answer without an image is not charged; the queries of the web were made."""
    assert cost_usd(PRO, USAGE, 0, blocked=True, searches=2) == pytest.approx(0.028)
    assert cost_usd(PRO, USAGE, 0, blocked=True) == 0.0


def test_scaled_prices() -> None:
    """Each rate, and each flat price, is multiplied; what is unknown stays unknown."""
    table = scaled({PRO: built_in()[PRO], "mine": ModelPrice(image_usd={"1K": 1.0})}, 1.1)
    assert estimated("standard", PRO, table) == pytest.approx(STANDARD_USD * 1.1)
    assert estimated("flex", PRO, table) == pytest.approx(STANDARD_USD * 0.55)
    assert table["mine"].image_usd == {"1K": pytest.approx(1.1)}
    assert table["mine"].input_usd_per_mtok is None
    assert scaled(table, 1.0) is table
