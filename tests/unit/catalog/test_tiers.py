import tomllib
from importlib.resources import files
from typing import Any

import pytest

from gemini_batch.catalog.tiers import FLAGS, limits_of
from gemini_batch.errors import ConfigError
from gemini_batch.records import Limits


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("free", Limits(requests_per_min=15, requests_per_day=1500)),
        ("pay-as-you-go", Limits(requests_per_min=60, requests_per_day=10_000)),
        ("tier-1", Limits(requests_per_min=60, requests_per_day=10_000, usd_per_10min=10)),
        ("tier-2", Limits(requests_per_min=60, requests_per_day=10_000, usd_per_10min=50)),
        ("tier-3", Limits(requests_per_min=60, requests_per_day=10_000, usd_per_10min=200)),
    ],
)
def test_built_in_tiers(name: str, expected: Limits) -> None:
    """The built-in tiers have the numbers of their sources."""
    assert expected == limits_of(name)


def test_table_is_dated_and_sourced() -> None:
    """Each built-in tier has a source, and the table has a date."""
    table = tomllib.loads(
        files("gemini_batch.catalog").joinpath("tiers.toml").read_text(encoding="utf-8")
    )

    assert table["checked_on"].isoformat() == "2026-11-30"
    assert all(tier["source"] for tier in table["tiers"].values())


def test_own_table_wins_over_built_in_and_flags_over_both() -> None:
    """Each number comes from the flag, else from the user's table, else from the built-in one."""
    own = {"free": {"requests_per_min": 10, "tokens_per_min": 250_000}}
    flags = {"requests_per_min": 5, "images_per_min": 4, "usd_per_day": None}

    assert Limits(
        requests_per_min=5, tokens_per_min=250_000, images_per_min=4, requests_per_day=1500
    ) == limits_of("free", own, flags)


def test_own_tier() -> None:
    """A user's tier needs no built-in one, and may have a shorter minute for a simulator."""
    own = {
        "mine": {
            "requests_per_min": 600,
            "usd_per_day": 12.5,
            "minute_s": 2.0,
            "source": "our contract",
        }
    }

    assert Limits(requests_per_min=600, usd_per_day=12.5, minute_s=2.0) == limits_of("mine", own)


def test_unknown_tier_names_the_known_ones() -> None:
    """The message for a misspelled tier has the known names."""
    with pytest.raises(ConfigError) as raised:
        limits_of("fre", {"mine": {"requests_per_min": 1}})

    assert str(raised.value) == (
        '--tier: got "fre"; did you mean "free"? allowed: free, pay-as-you-go, enterprise, tier-1, tier-2, tier-3, mine'
    )


def test_enterprise_asks_for_numbers() -> None:
    """A tier without numbers names the flags that set them, and runs with any one of them."""
    with pytest.raises(ConfigError) as raised:
        limits_of("enterprise")

    with pytest.raises(ConfigError, match="has no numbers"):
        limits_of("hurried", {"hurried": {"minute_s": 2.0}})
    text = str(raised.value)
    assert all(
        flag in text
        for flag in ("--rpm", "--tpm", "--ipm", "--rpd", "--usd-per-10min", "--usd-per-day")
    )
    assert Limits(requests_per_min=300) == limits_of(
        "enterprise", overrides={"requests_per_min": 300}
    )


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (3, "my.toml: tiers: got 3; allowed: tables such as [tiers.mine]"),
        ({"mine": 3}, "my.toml: tiers.mine: got 3; allowed: a table with requests_per_min, "),
        (
            {"mine": {"rpm": 3}},
            'my.toml: tiers.mine: unknown key "rpm"; allowed: requests_per_min, ',
        ),
        (
            {"mine": {"requests_per_min": "15"}},
            'tiers.mine.requests_per_min: got "15"; allowed: a whole number from 1',
        ),
        (
            {"mine": {"requests_per_min": True}},
            "tiers.mine.requests_per_min: got true; allowed: a whole number from 1",
        ),
        (
            {"mine": {"requests_per_day": 0}},
            "tiers.mine.requests_per_day: got 0; allowed: a whole number from 1",
        ),
        (
            {"mine": {"tokens_per_min": 1.5}},
            "tiers.mine.tokens_per_min: got 1.5; allowed: a whole number from 1",
        ),
        (
            {"mine": {"tokens_per_min": 2**64}},
            f"got {2**64}; allowed: a whole number from 1 to 1,000,000,000,000",
        ),
        (
            {"mine": {"usd_per_day": "5"}},
            'tiers.mine.usd_per_day: got "5"; allowed: dollars, from 0.000001 to 100,000,000',
        ),
        (
            {"mine": {"usd_per_10min": float("inf")}},
            "tiers.mine.usd_per_10min: got inf; allowed: dollars, from ",
        ),
        (
            {"mine": {"usd_per_10min": float("nan")}},
            "tiers.mine.usd_per_10min: got nan; allowed: dollars, from ",
        ),
        (
            {"mine": {"usd_per_day": 10**9}},
            "tiers.mine.usd_per_day: got 1000000000; allowed: dollars, from ",
        ),
        (
            {"mine": {"minute_s": 0}},
            "tiers.mine.minute_s: got 0; allowed: seconds, from 0.001 to 86,400",
        ),
        (
            {"mine": {"minute_s": 1e300}},
            "tiers.mine.minute_s: got 1e+300; allowed: seconds, from 0.001 to 86,400",
        ),
        (
            {"mine": {"minute_s": 1e-300}},
            "tiers.mine.minute_s: got 1e-300; allowed: seconds, from 0.001 to 86,400",
        ),
    ],
)
def test_wrong_table_says_where_what_and_what_is_allowed(table: Any, expected: str) -> None:
    """A message has the place, the value found and those allowed, also for tiers that are not used."""
    with pytest.raises(ConfigError) as raised:
        limits_of("free", table, source="my.toml")

    assert expected in str(raised.value)


@pytest.mark.parametrize("key", FLAGS)
def test_wrong_flag_is_called_by_its_name(key: str) -> None:
    """A wrong number from a flag is reported under the flag's name."""
    with pytest.raises(ConfigError) as raised:
        limits_of("free", overrides={key: -1})

    assert str(raised.value).startswith(f"{FLAGS[key]}: got -1; allowed: ")
