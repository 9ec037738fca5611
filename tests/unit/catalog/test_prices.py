from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.catalog import models
from gemini_batch.catalog.prices import (
    ModelPrice,
    PriceKind,
    PriceTable,
    built_in,
    cost_usd,
    estimate,
    factor,
    input_tokens,
    merged,
)
from gemini_batch.errors import ConfigError
from gemini_batch.records import Estimate, Usage

PRO, FLASH, NANO = "gemini-3-pro-image-preview", "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
# USD an image as Google prints it, https://ai.google.dev/gemini-api/docs/pricing (read 2026-09-22 to 2026-10-08).
PRINTED = {
    (PRO, "1K"): 0.134,
    (PRO, "2K"): 0.134,
    (PRO, "4K"): 0.24,
    ("gemini-3-pro-image", "1K"): 0.134,
    ("gemini-3-pro-image", "2K"): 0.134,
    ("gemini-3-pro-image", "4K"): 0.24,
    (FLASH, "512"): 0.045,
    (FLASH, "1K"): 0.067,
    (FLASH, "2K"): 0.101,
    (FLASH, "4K"): 0.151,
    ("gemini-3.1-flash-lite-image", "1K"): 0.0336,
    (NANO, "1K"): 0.0336,
    (NANO, "2K"): 0.0504,
    (NANO, "4K"): 0.1134,
    ("gemini-2.5-flash-image", "1K"): 0.039,
}


def image_usd(model: str, size: str = "1K", table: PriceTable | None = None) -> float | None:
    """Return the price of one image, without prompt and thinking."""
    return estimate(model, size, prices=table).cost_usd


@pytest.mark.parametrize(("model", "size"), PRINTED)
def test_tokens_times_rate_is_the_printed_price(model: str, size: str) -> None:
    """Rates and token counts give the price per image that Google publishes, to the half cent of its rounding."""
    assert image_usd(model, size) == pytest.approx(PRINTED[model, size], abs=0.0005)


# USD an image of the other kinds on the same page (flex read 2026-08-27, priority 2026-09-22).
PRINTED_OTHER: dict[tuple[PriceKind, str], float] = {
    ("flex", "1K"): 0.067,
    ("flex", "4K"): 0.12,
    ("priority", "1K"): 216 * 1120 / 1e6,
    ("priority", "4K"): 216 * 2000 / 1e6,
    ("batch", "1K"): 0.067,
    ("batch", "4K"): 0.12,
}


@pytest.mark.parametrize(("kind", "size"), PRINTED_OTHER)
def test_factor_times_price_is_the_printed_price(kind: PriceKind, size: str) -> None:
    """The standard price and the factor of a kind give the price that Google publishes."""
    times = factor("gemini-3-pro-image", kind)
    assert times is not None
    assert (image_usd("gemini-3-pro-image", size) or 0) * times == pytest.approx(
        PRINTED_OTHER[kind, size], abs=0.0005
    )


@pytest.mark.parametrize("model", models.known())
def test_every_model_has_a_batch_price_and_only_pro_the_service_tiers(model: str) -> None:
    """The Batch API costs half on all models; only Pro, by any of its names, has flex and priority."""
    is_pro = "-pro-" in model
    assert factor(model, "standard") == 1.0
    assert factor(model, "batch") == 0.5
    assert factor(model, "flex") == (0.5 if is_pro else None)
    assert factor(model, "priority") == (1.8 if is_pro else None)


def test_a_users_factor_wins() -> None:
    """A user's table sets a factor of a known or a new model; the others stay as they are."""
    table = merged(built_in(), {PRO: {"priority_factor": 2}, "mine": {"flex_factor": 0.4}})
    assert factor(PRO, "priority", table) == 2.0
    assert factor(PRO, "flex", table) == 0.5
    assert factor("mine", "flex", table) == 0.4
    assert factor("mine", "batch", table) is None
    assert factor("unheard-of", "batch") is None
    assert factor("unheard-of", "standard") == 1.0


def test_every_known_model_has_a_price() -> None:
    """No known model is free by mistake."""
    assert set(built_in()) == set(models.known())


def test_estimate_counts_text_and_reference_images() -> None:
    """Four bytes are a token, a reference image on Pro is 560, and both cost the input rate."""
    tokens = input_tokens(PRO, input_images=2, prompt_bytes=41)
    actual = estimate(PRO, "4K", input_tokens=tokens)
    assert (actual.input_tokens, actual.output_tokens) == (11 + 2 * 560, 2000)
    assert actual.cost_usd == pytest.approx(0.24 + 1131 * 2 / 1e6)
    assert estimate(PRO) == Estimate(
        0, 1120, 1120 * 120 / 1e6, extra_usd=630 * 12 / 1e6, max_extra_usd=32768 * 12 / 1e6
    )


@pytest.mark.parametrize(("model", "tokens"), [(PRO, 560), (FLASH, 1120), (NANO, 1120),
                                               ("gemini-3.1-flash-lite-image", 1120), ("gemini-2.5-flash-image", 258)])  # fmt: skip
def test_reference_images_have_the_tokens_of_the_price_page(model: str, tokens: int) -> None:
    """A reference image on 3.1 Flash, Flash-Lite and 2.1 is 1,120 tokens."""
    assert input_tokens(model, input_images=3) == 3 * tokens


@pytest.mark.parametrize(
    ("model", "thinking", "usd"), [(NANO, 900, 0.0336 + 900 * 7.5 / 1e6), (PRO, 300, 0.1344 + 300 * 12 / 1e6),
                                   (FLASH, 150, 0.0672 + 150 * 3 / 1e6)])  # fmt: skip
def test_estimate_has_the_thinking_at_the_text_rate(model: str, thinking: int, usd: float) -> None:
    """Thinking is billed as text, and is in cost and output tokens."""
    actual = estimate(model, thinking_tokens=thinking)
    assert actual.cost_usd == pytest.approx(usd)
    assert actual.output_tokens == 1120 + thinking


def test_worst_case_of_the_lite_model_is_its_shorter_answer() -> None:
    """The longest answer of Flash-Lite has 4,096 tokens."""
    assert estimate("gemini-3.1-flash-lite-image").max_extra_usd == pytest.approx(4096 * 1.5 / 1e6)


def test_estimate_of_many_is_the_sum_of_each() -> None:
    """The estimate of a sum is the sum of the estimates."""
    each = [estimate(FLASH, "2K", input_tokens=tokens) for tokens in (0, 10, 100, 1000, 7)]
    every = estimate(FLASH, "2K", calls=5, input_tokens=1117)
    assert every.output_tokens == sum(one.output_tokens for one in each)
    assert every.cost_usd == pytest.approx(sum(one.cost_usd or 0 for one in each))


def test_unknown_price_is_none_and_never_zero() -> None:
    """An unknown price is never reported as free."""
    tokens = input_tokens("gemini-9-image", prompt_bytes=4, input_images=1)
    assert estimate("gemini-9-image", input_tokens=tokens) == Estimate(1121, 1120, None)
    table = {"mine": ModelPrice(1.0, 10.0, 30.0)}
    assert estimate("mine", "4K", prices=table).cost_usd is None
    assert cost_usd("gemini-9-image", Usage(prompt_tokens=1, total_tokens=9), 1) is None
    assert cost_usd("gemini-9-image", None, 0, blocked=True) is None
    assert cost_usd("mine", None, 1, "4K", prices=table) is None


USAGES = {
    "by modality": (
        Usage(16, 1296, 180, 1492, {"prompt": {"TEXT": 16}, "candidates": {"IMAGE": 1290}}),
        (16 * 2 + 1290 * 120 + (1492 - 16 - 1290) * 12) / 1e6,
    ),
    "thoughts in the candidates": (
        Usage(16, 1296, 180, 1312, {"candidates": {"IMAGE": 1120}}),
        (16 * 2 + 1120 * 120 + 176 * 12) / 1e6,
    ),
    "totals alone": (Usage(16, None, None, 1336), (16 * 2 + 1120 * 120 + 200 * 12) / 1e6),
    "no total": (Usage(16, 1120, 100), (16 * 2 + 1120 * 120 + 100 * 12) / 1e6),
    "prompt alone": (Usage(prompt_tokens=10), (10 * 2 + 1120 * 120) / 1e6),
    "a total that lacks the output": (
        Usage(10, 1120, 80, 10),
        (10 * 2 + 1120 * 120 + 80 * 12) / 1e6,
    ),
    "the longest answer": (
        Usage(10, None, None, 32778),
        (10 * 2 + 1120 * 120 + (32768 - 1120) * 12) / 1e6,
    ),
}
ESTIMATED_USD = (7 * 2 + 1120 * 120) / 1e6
SENSELESS = {
    "absent": None,
    "zeros": Usage(0, 0, 0, 0, {"candidates": {"IMAGE": 0}}),
    "nothing but zeros of details": Usage(None, None, None, None, {"candidates": {"IMAGE": 0}}),
    "a token": Usage(0, 1, None, 1),
    "one token less than an image": Usage(0, 1119, 0, 1119),
    "the image alone too small": Usage(0, 5000, 0, 5000, {"candidates": {"IMAGE": 1119}}),
    "more than any answer": Usage(0, 200_000, 0, 200_000),
    "more than any answer by modality": Usage(
        0, 1120, 0, 1120, {"candidates": {"IMAGE": 2**31 - 1}}
    ),
    "more images than output": Usage(0, 1120, 0, 1120, {"candidates": {"IMAGE": 1121}}),
    "an image a hundred times": Usage(0, 1120, 0, 1120, {"candidates": {"IMAGE": 112_000}}),
    "more than any prompt": Usage(2**31 - 1, 1120, 0, 2**31 - 1),
}


@pytest.mark.parametrize("name", USAGES)
def test_cost_of_an_image_from_its_usage(name: str) -> None:
    """The bill comes from totals; the image's share from its modality, else from the model's tokens per image."""
    usage, expected = USAGES[name]
    assert cost_usd(PRO, usage, 1) == pytest.approx(expected)


@pytest.mark.parametrize("name", SENSELESS)
def test_a_usage_that_makes_no_sense_is_not_billed(name: str) -> None:
    """An image that came costs its list price where the counts can't be those of an image."""
    cost = cost_usd(PRO, SENSELESS[name], 1, input_tokens=7)
    assert cost == pytest.approx(ESTIMATED_USD)


def test_each_image_counts_where_the_usage_makes_no_sense() -> None:
    """Without counts every image of the answer costs the list price of its size."""
    usage = Usage(10, None, None, 1510)  # less than one image of 4K
    assert cost_usd(PRO, usage, 3, "4K") == pytest.approx((10 * 2 + 3 * 2000 * 120) / 1e6)


def test_a_flat_price_needs_no_counts() -> None:
    """A price an image is the same for any usage."""
    table = {"mine": ModelPrice(1.0, 10.0, None, {"1K": 0.05})}
    for usage in (None, Usage(0, 0, 0, 0), Usage(5, 2**31 - 1, 0, 2**31 - 1)):
        cost = cost_usd("mine", usage, 1, prices=table, input_tokens=5)
        assert cost == pytest.approx(0.05 + 5 / 1e6)


@pytest.mark.parametrize("usage", [Usage(10, 0, 0, 10), Usage(10, None, None, 5), Usage(10, 10**6)])
def test_text_without_its_tokens_is_of_unknown_cost(usage: Usage) -> None:
    """A text has tokens: where none, or too many, are counted, the cost is not known."""
    assert cost_usd(PRO, usage, 0, has_text=True) is None


def test_nothing_may_cost_nothing_but_its_prompt() -> None:
    """An answer without image and text may have no output tokens."""
    assert cost_usd(PRO, Usage(10, 0, 0, 10), 0) == pytest.approx(10 * 2 / 1e6)


@given(
    st.builds(
        Usage,
        *4 * [st.none() | st.integers(0, 2**31 - 1) | st.integers(0, 3000)],
        st.dictionaries(
            st.just("candidates"), st.dictionaries(st.just("IMAGE"), st.integers(0, 2**31 - 1))
        ),
    ),
    st.sampled_from(["1K", "2K", "4K"]),
)
def test_no_usage_makes_an_image_cheaper_or_ruinous(usage: Usage, size: str) -> None:
    """Whatever a server counts, an image costs the list price at least, and never a fortune."""
    cost = cost_usd(PRO, usage, 1, size)
    assert cost is not None
    assert image_usd(PRO, size) <= cost + 1e-9 < 25  # type: ignore[operator]


def test_drafts_are_paid_for() -> None:
    """Every image of an answer is counted."""
    assert cost_usd(PRO, Usage(0, None, None, 4100), 2, "4K") == pytest.approx(
        (4000 * 120 + 100 * 12) / 1e6
    )


def test_text_answer_costs_its_text() -> None:
    """A refusal as text is billed as text."""
    assert cost_usd(PRO, Usage(10, 90, 30, 130), 0) == pytest.approx((10 * 2 + 120 * 12) / 1e6)


def test_blocked_answer_costs_nothing() -> None:
    """A safety answer without an image is not charged; one with a draft is."""
    usage = Usage(10, 0, 100, 110)
    assert cost_usd(PRO, usage, 0, blocked=True) == 0.0
    assert cost_usd(PRO, usage, 1, blocked=True) == cost_usd(PRO, usage, 1)


def test_answer_without_image_and_usage_is_unknown() -> None:
    """Without counts of the server the cost is unknown."""
    assert cost_usd(PRO, None, 0) is None


def test_output_of_unknown_image_size_counts_as_image() -> None:
    """Without tokens per image, the whole output costs the image rate, the more expensive one."""
    table = {"mine": ModelPrice(1.0, 10.0, 30.0)}
    usage = Usage(0, None, None, 1700)
    assert cost_usd("mine", usage, 1, "2K", prices=table) == pytest.approx(1700 * 30 / 1e6)


def test_unknown_text_rate_counts_nothing() -> None:
    """A model with an unknown text rate is billed for its images."""
    table = {FLASH: ModelPrice(image_output_usd_per_mtok=60.0)}
    usage = Usage(1000, None, None, 2620)
    assert cost_usd(FLASH, usage, 1, prices=table) == pytest.approx(1120 * 60 / 1e6)


def test_users_prices_win_key_by_key() -> None:
    """A user's table changes the keys it names and no others."""
    mine = {"image_usd": {"1K": 1}, "input_usd_per_mtok": 3}
    table = merged(built_in(), {PRO: {"image_usd": {"1K": 0.1}}, "mine": mine})
    assert image_usd(PRO, table=table) == 0.1
    assert image_usd(PRO, "4K", table) == pytest.approx(0.24)
    assert table[PRO].input_usd_per_mtok == 2.0
    assert image_usd("mine", "1K", table) == 1.0
    assert image_usd("mine", "2K", table) is None
    assert merged(table, {PRO: {"image_usd": {"2K": 0.2}}})[PRO].image_usd == {
        "1K": 0.1,
        "2K": 0.2,
    }
    assert image_usd(PRO) == pytest.approx(0.1344)


def test_a_new_model_may_have_any_size() -> None:
    """An unknown model is not checked: a raw request may ask for a size that is new as well."""
    table = merged(built_in(), {"gemini-9": {"image_usd": {"8K": 0.5}}})
    assert image_usd("gemini-9", "8K", table) == 0.5


def test_flat_price_replaces_the_image_rate() -> None:
    """With a price per image, tokens of text are billed, those of the image are not."""
    table = {"mine": ModelPrice(1.0, 10.0, None, {"1K": 0.05})}
    usage = Usage(100, None, None, 1400, {"candidates": {"IMAGE": 1200}})
    assert cost_usd("mine", usage, 1, prices=table) == pytest.approx(
        0.05 + 100 / 1e6 + 100 * 10 / 1e6
    )
    assert estimate("mine", input_tokens=100, prices=table).cost_usd == pytest.approx(
        0.05 + 100 / 1e6
    )


KEYS = (
    "input_usd_per_mtok, text_output_usd_per_mtok, image_output_usd_per_mtok, image_usd, "
    "batch_factor, flex_factor, priority_factor"
)
BAD_TABLES: dict[str, tuple[Any, str]] = {
    "no table": ({"m": 3}, f'prices."m": got 3; must be a table with {KEYS}'),
    "unknown key": (
        {"m": {"input_usd_per_token": 1}},
        'prices."m".input_usd_per_token: no such price; did you mean "input_usd_per_mtok"?',
    ),
    "no number": (
        {"m": {"input_usd_per_mtok": "2"}},
        'prices."m".input_usd_per_mtok: got "2"; must be an amount of USD, from 0 to 100,000,000',
    ),
    "huge": (
        {"m": {"input_usd_per_mtok": 10**400}},
        f'prices."m".input_usd_per_mtok: got 1{"0" * 39}… (401 characters); must be an amount of USD, from 0 to 100,000,000',
    ),
    "infinite": (
        {"m": {"image_usd": {"1K": float("inf")}}},
        'prices."m".image_usd.1K: got inf; must be an amount of USD, from 0 to 100,000,000',
    ),
    "no tables": (
        [10**400],
        "prices: got [1" + "0" * 38 + '… (403 characters); must be tables such as [prices."MODEL"]',
    ),
    "negative": (
        {"m": {"image_usd": {"1K": -1}}},
        'prices."m".image_usd.1K: got -1; must be an amount of USD, from 0 to 100,000,000',
    ),
    "yes": (
        {"m": {"input_usd_per_mtok": True}},
        'prices."m".input_usd_per_mtok: got true; must be an amount of USD, from 0 to 100,000,000',
    ),
    "a size that the model does not have": (
        {PRO: {"image_usd": {"1K": 0.1, "7K": 0.1}}},
        f'prices."{PRO}".image_usd: got "7K"; {PRO} offers 1K, 2K, 4K',
    ),
    "a factor of 0": (
        {"m": {"batch_factor": 0}},
        'prices."m".batch_factor: got 0; must be a number above 0, at most 100',
    ),
    "a factor that is no number": (
        {"m": {"flex_factor": "half"}},
        'prices."m".flex_factor: got "half"; must be a number above 0, at most 100',
    ),
    "one price for all": (
        {"m": {"image_usd": 0.1}},
        'prices."m".image_usd: got 0.1; must be a table of sizes such as { 1K = 0.05 }',
    ),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_wrong_price_is_named(name: str) -> None:
    """The error names the key, the value found, and the values allowed."""
    table, message = BAD_TABLES[name]
    with pytest.raises(ConfigError) as refused:
        merged(built_in(), table)
    assert str(refused.value) == f"--config: {message}"
