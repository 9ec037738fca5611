from datetime import UTC, datetime
from typing import Any

import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import SimulatorConfig, quota
from gemini_batch.simulator.bodies import duration_text
from gemini_batch.simulator.quota import Moment, Quota
from tests.loopback.simulator.client import FLASH, PRO, Caller, SetTime, calling, text

pytestmark = pytest.mark.loopback


async def _statuses(caller: Caller, count: int, **fields: Any) -> list[int]:
    return [(await caller.ask(f"job {number}", **fields)).status for number in range(count)]


async def test_sliding_minute() -> None:
    """Any 60 seconds hold at most the limit: what was sent a minute ago is free again, one by one."""
    time = SetTime()
    async with calling(tier="free", clock=time(), count_rejected=False) as caller:
        first = await _statuses(caller, 10)
        time.passed_s = 30
        second = await _statuses(caller, 6)
        time.passed_s = 59.9
        third = await _statuses(caller, 1)
        time.passed_s = 60
        fourth = await _statuses(caller, 11)
    assert (first, second, third, fourth) == (
        [200] * 10,
        [200] * 5 + [429],
        [429],
        [200] * 10 + [429],
    )


async def test_priority_has_windows_of_its_own() -> None:
    """They are 0.3 times as large; flex is counted with standard, and priority costs 1.8 times as much."""
    time = SetTime()

    def body(number: int, tier: str) -> dict[str, Any]:
        return text(f"job {number}") | {"serviceTier": tier}

    async with calling(tier="free", clock=time(), usd_per_10min=10.0) as caller:
        statuses = [
            (await caller.post(body(number, tier))).status
            for number, tier in enumerate(["standard"] * 8 + ["priority"] * 5 + ["flex"] * 8)
        ]
        (used,) = (model["used"] for model in caller.simulator.report()["models"])
    assert statuses == [200] * 8 + [200] * 4 + [429] + [200] * 7 + [429]
    assert used["usd_per_10min"]["used"] == pytest.approx(8 * 0.134 + 7 * 0.067)


async def test_fixed_minute() -> None:
    """A fixed minute is the clock's: twice the limit passes around its end."""
    time = SetTime(datetime(2026, 11, 22, 20, 0, 59, tzinfo=UTC))
    async with calling(tier="free", enforce="fixed", clock=time()) as caller:
        before = await _statuses(caller, 16)
        time.passed_s = 1
        after = await _statuses(caller, 16)
    assert (before, after) == ([200] * 15 + [429],) * 2


async def test_bucket() -> None:
    """A bucket starts full and fills steadily: a request every four seconds at 15 a minute."""
    time = SetTime()
    async with calling(tier="free", enforce="bucket", clock=time()) as caller:
        first = await _statuses(caller, 16)
        time.passed_s = 3.9
        early = await _statuses(caller, 1)
        time.passed_s = 8.1
        later = await _statuses(caller, 2)
    assert (first, early, later) == ([200] * 15 + [429], [429], [200, 429])


async def test_day_ends_at_midnight_pacific() -> None:
    """The day's quota comes back at midnight in Los Angeles, whatever hour that is in UTC; the 429 names a few seconds."""
    time = SetTime(datetime(2026, 11, 23, 7, 59, 0, tzinfo=UTC))  # 23:59 PST
    async with calling(requests_per_day=3, clock=time()) as caller:
        before = await _statuses(caller, 3)
        refused = await caller.ask("x")
        time.passed_s = 60
        after = await _statuses(caller, 3)
    assert (before, after) == ([200] * 3, [200] * 3)
    violation = refused.details("QuotaFailure")["violations"][0]
    assert (refused.status, violation["quotaId"]) == (
        429,
        "GenerateRequestsPerDayPerProjectPerModel",
    )
    assert violation["quotaValue"] == "3"
    assert 8 <= int(refused.details("RetryInfo")["retryDelay"].removesuffix("s")) <= 40


@pytest.mark.parametrize(
    ("at", "hours"),
    [
        (datetime(2026, 3, 8, 8, 0, tzinfo=UTC), 23),  # the day that summer time begins
        (datetime(2026, 11, 1, 7, 0, tzinfo=UTC), 25),  # and ends
        (datetime(2026, 11, 22, 8, 0, tzinfo=UTC), 24),
    ],
)
def test_days_of_other_lengths(at: datetime, hours: int) -> None:
    """A day of 23 or 25 hours is as long as it is."""
    config = SimulatorConfig(tier="unlimited", requests_per_day=0)
    violations = Quota(config).charge("key", PRO, Moment(0, at), {quota.REQUESTS_PER_DAY: 1})
    assert [violation.wait_s for violation in violations] == [hours * 3600]


async def test_tokens_a_minute() -> None:
    """Input tokens count with their own limit."""
    async with calling(tokens_per_min=30) as caller:
        statuses = await _statuses(caller, 1)
        refused = await caller.ask("a long prompt " * 10)
        small = await _statuses(caller, 1)
    assert (statuses, refused.status, small) == ([200], 429, [200])
    violation = refused.details("QuotaFailure")["violations"][0]
    assert violation["quotaId"] == "GenerateContentPaidTierInputTokensPerModelPerMinute"


async def test_images_a_minute() -> None:
    """Pictures count with their own limit."""
    async with calling(images_per_min=2) as caller:
        assert await _statuses(caller, 3) == [200, 200, 429]


async def test_dollars_in_ten_minutes() -> None:
    """Dollars count at list price: seven pictures of $0.134 fit into a dollar, four of 4K."""
    time = SetTime()
    async with calling(usd_per_10min=1.0, clock=time()) as caller:
        plain = await _statuses(caller, 8)
        time.passed_s = 599
        still = await _statuses(caller, 1)
        time.passed_s = 600
        large = [
            (await caller.post(text("x", imageConfig={"imageSize": "4K"}))).status for _ in range(5)
        ]
    assert (plain, still, large) == ([200] * 7 + [429], [429], [200] * 4 + [429])


async def test_quota_is_per_model_and_project() -> None:
    """Another model, and another key, have a quota of their own."""
    async with calling(requests_per_min=1) as caller:
        found = [
            (await caller.ask("x", **fields)).status
            for fields in ({}, {}, {"model": FLASH}, {"headers": {"x-goog-api-key": "other"}})
        ]
    assert found == [200, 429, 200, 200]


async def test_every_request_counts() -> None:
    """What was refused counts as well: as wrong, as unavailable, and as one too many."""
    time = SetTime()
    async with calling(requests_per_min=3, clock=time()) as caller:
        wrong = (await caller.post({})).status
        unavailable = (await caller.ask("x [[fault:503]]")).status
        good = (await caller.ask("x")).status
        time.passed_s = 30
        too_many = (await caller.ask("x")).status
        time.passed_s = 60
        later = await _statuses(caller, 3)
    assert (wrong, unavailable, good, too_many) == (400, 503, 200, 429)
    assert later == [200, 200, 429]


async def test_the_named_wait_is_enough() -> None:
    """A client that waits as long as the 429 says is admitted."""
    time = SetTime()
    async with calling(requests_per_min=2, clock=time()) as caller:
        await _statuses(caller, 2)
        time.passed_s = 10
        refused = await caller.ask("x")
        wait_s = float(refused.message.rpartition("Please retry in ")[2].removesuffix("s."))
        time.passed_s += wait_s
        later = await caller.ask("x")
    assert (refused.status, later.status, wait_s) == (429, 200, 50)


async def test_short_minute() -> None:
    """A minute can be shorter: requests are admitted again after `minute_s`, and not before."""
    time = SetTime()
    async with calling(
        requests_per_min=2, minute_s=0.25, clock=time(), count_rejected=False
    ) as caller:
        first = await _statuses(caller, 3)
        time.passed_s = 0.2
        early = await _statuses(caller, 1)
        time.passed_s = 0.25
        second = await _statuses(caller, 3)
    assert (first, early, second) == ([200, 200, 429], [429], [200, 200, 429])


async def test_no_quota_at_all() -> None:
    """A limit of 0 is named as such."""
    async with calling(tier="free", requests_per_min=0) as caller:
        got = await caller.ask("x")
    assert (got.status, got.details("QuotaFailure")["violations"][0]["quotaValue"]) == (429, "0")
    assert "limit: 0, model" in got.message


async def test_minute_and_day_together() -> None:
    """Several limits overrun at once are named in one body."""
    async with calling(requests_per_min=1, requests_per_day=1) as caller:
        await caller.ask("x")
        got = await caller.ask("x")
    ids = [violation["quotaId"] for violation in got.details("QuotaFailure")["violations"]]
    assert ids == [
        "GenerateRequestsPerMinutePerProjectPerModel",
        "GenerateRequestsPerDayPerProjectPerModel",
    ]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (34.286670503, "34.286670503s"),
        (37_025.72, "10h17m5.72s"),
        (0.68412, "684.12ms"),
        (60, "1m0s"),
        (3600, "1h0m0s"),
        (0, "0ms"),
    ],
)
def test_duration(seconds: float, written: str) -> None:
    """A wait is written as the API writes it."""
    assert duration_text(seconds) == written


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"tier": "gold"}, "tier: got 'gold'; allowed: free, pay-as-you-go, unlimited"),
        ({"enforce": "strict"}, "enforce: got 'strict'; allowed: sliding, fixed, bucket"),
        ({"minute_s": 0}, "minute_s: got 0; allowed: more than 0 and up to 86,400 seconds"),
        ({"requests_per_min": -1}, "requests_per_min: got -1; allowed: 0 to 1,000,000,000,000"),
        ({"latency_s": -1}, "latency_s: got -1; allowed: 0 or more seconds"),
        ({"pixels": 2}, "pixels: got 2; allowed: 8 to 8192"),
        (
            {"day_zone": "Mars/Olympus"},
            "day_zone: got 'Mars/Olympus'; allowed: a zone such as America/Los_Angeles",
        ),
    ],
)
def test_bad_config(wrong: dict[str, Any], words: str) -> None:
    """A value that no server could have is refused with what is allowed."""
    with pytest.raises(ConfigError) as caught:
        SimulatorConfig(**wrong)
    assert str(caught.value) == words
