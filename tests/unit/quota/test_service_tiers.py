"""Quotas of the service tiers: flex is in that of standard, priority has its own."""

from datetime import UTC, datetime

import pytest

from gemini_batch.catalog.prices import estimate
from gemini_batch.quota.limits import Weights, limits_of
from gemini_batch.quota.results import DayClosed, Granted
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import Limits
from gemini_batch.records.service_tier import (
    SERVICE_TIERS,
    lane_name,
    model_and_tier,
    quota_name,
)

NOON = datetime(2026, 11, 30, 20, tzinfo=UTC)
PRO = "gemini-3-pro-image"


def test_names_of_lanes_and_quotas() -> None:
    """A lane is named after model and tier, and says both; flex uses the quota of standard."""
    for tier in ("standard", "flex", "priority"):
        assert model_and_tier(lane_name(PRO, tier)) == (PRO, tier)
    assert lane_name(PRO, "flex") == "gemini-3-pro-image (flex)"
    assert quota_name(lane_name(PRO, "flex")) == quota_name(PRO) == PRO
    assert quota_name(lane_name(PRO, "priority")) == "gemini-3-pro-image (priority)"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(), Limits()),
        (Limits(60, requests_per_day=10_000), Limits(18, requests_per_day=3_000)),
        (Limits(15, requests_per_day=1_500), Limits(4, requests_per_day=450)),
        (Limits(1, 10, 2, 3), Limits(1, 3, 1, 1)),
        (Limits(usd_per_10min=10, usd_per_day=1, minute_s=6), Limits(usd_per_10min=3, usd_per_day=0.3, minute_s=6)),
    ],
)  # fmt: skip
def test_priority_has_a_share_of_each_limit(limits: Limits, expected: Limits) -> None:
    """0.3 of each, rounded down, one request at least; a minute stays a minute, and no limit none."""
    found = limits_of(limits, f"{PRO} (priority)")
    assert found == pytest.approx(expected) if limits == Limits() else found
    for name in Limits.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(expected, name)), name
    assert limits_of(limits, PRO) is limits
    assert limits_of(limits, f"{PRO} (flex)") is limits


def test_what_may_be_billed_counts_until_the_answer_says_less() -> None:
    """Flex takes the dollars of standard from the windows, for it may be served so."""
    standard, flex, priority = (
        Weights.of(estimate(PRO, service_tier=tier)).usd_micros for tier in SERVICE_TIERS
    )
    assert (standard, flex, priority) == (134_400, 134_400, 241_920)


def test_a_call_that_is_too_large_for_priority_is_named() -> None:
    """Also the first one of a quota: it fits the dollars of standard, and not their share."""
    ledger = SharedLedger(MemoryStorage(), Limits(usd_per_10min=0.5))
    weights = Weights.of(estimate(PRO, service_tier="priority"))
    assert isinstance(ledger.reserve(PRO, weights, 1, 1000.0, NOON), Granted)
    with pytest.raises(ValueError, match=r"takes \$0\.242, and the limit is \$0\.150"):
        ledger.reserve(f"{PRO} (priority)", weights, 1, 1000.0, NOON)


def test_flex_and_standard_share_a_day_and_priority_has_its_own() -> None:
    """Ten requests a day: standard and flex take them together, priority three more."""
    ledger = SharedLedger(MemoryStorage(), Limits(requests_per_day=10))
    taken = {}
    for lane in (PRO, f"{PRO} (flex)", f"{PRO} (priority)"):
        taken[lane] = 0
        for _ in range(6 if lane == PRO else 12):
            result = ledger.reserve(lane, Weights(), 1, 1000.0, NOON)
            if isinstance(result, DayClosed):
                break
            assert isinstance(result, Granted)
            taken[lane] += 1
    assert list(taken.values()) == [6, 4, 3]
    day = {
        quota: next(each for each in ledger.used(quota, 1000.0, NOON) if each.bound.span == "a day")
        for quota in (PRO, f"{PRO} (priority)")
    }
    assert [(used.used, used.bound.limit) for used in day.values()] == [(10, 10), (3, 3)]
