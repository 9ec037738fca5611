"""The cost of a call at list price, estimated or from the server's token counts.

::

    cost = prompt tokens · input rate + image tokens · image rate + other output tokens · text rate

The rates are those of `price_table`. The service tier that was served multiplies all of them.
"""

from gemini_batch.catalog import models
from gemini_batch.catalog.price_table import (
    ModelPrice,
    PriceKind,
    PriceTable,
    built_in,
    merged,
    scaled,
)
from gemini_batch.records import Estimate, ServiceTier, Usage
from gemini_batch.records.service_tier import SERVICE_TIERS

__all__ = [
    "ModelPrice",
    "PriceKind",
    "PriceTable",
    "booked_factor",
    "built_in",
    "cost_usd",
    "credible",
    "estimate",
    "factor",
    "input_tokens",
    "merged",
    "scaled",
    "thinking_and_text_tokens",
    "tier_factor",
]

# "A token is equivalent to about 4 characters": https://ai.google.dev/gemini-api/docs/tokens
# (2026-11-22). Bytes of UTF-8 are closer where a character has more than one byte.
PROMPT_BYTES_PER_TOKEN = 4
# For a model that is not in models.toml: the numbers of the 3.1 models and of 2.1, the newest
# (2026-11-30).
_GUESSED_OUTPUT_TOKENS = 1120
_GUESSED_INPUT_IMAGE_TOKENS = 1120
# Output other than the image: 88 to 630 tokens in 66 answers measured through a gateway (collected
# 2026-11-22). A model that thinks more varies as much around its mean.
EXTRA_OUTPUT_TOKENS = 630
_MOST_TIMES_THE_MEAN = 1.5
# More is not a count of one answer, of a new model either; nor is such a prompt: the longest of any
# Gemini model was 2,097,152 tokens, of 1.5 Pro (Google's model pages, 2026-11-22).
_MAX_ANSWER_TOKENS, _MAX_PROMPT_TOKENS = 4 * models.MAX_OUTPUT_TOKENS, 2_097_152
_MTOK = 1_000_000

# $14 per 1,000 queries, https://ai.google.dev/gemini-api/docs/pricing (2026-11-06), for all models
# and tiers. A call may send several; this many are expected.
SEARCH_USD = 0.014
SEARCHES_OF_A_CALL = 10


def factor(model: str, kind: PriceKind, prices: PriceTable | None = None) -> float | None:
    """Return what multiplies a model's standard price; None if it has no price of this kind.

    `prices` are the built-in ones if None.
    """
    price = (prices or built_in()).get(model)
    if kind == "standard" or price is None:
        return 1.0 if kind == "standard" else None
    factors: dict[PriceKind, float | None] = {
        "batch": price.batch_factor,
        "flex": price.flex_factor,
        "priority": price.priority_factor,
    }
    return factors[kind]


def estimate(
    model: str,
    image_size: str = models.DEFAULT_IMAGE_SIZE,
    *,
    calls: int = 1,
    input_tokens: int = 0,
    thinking_tokens: int = 0,
    searches: int = 0,
    service_tier: ServiceTier = "standard",
    prices: PriceTable | None = None,
) -> Estimate:
    """Return the expected usage of calls for one image each.

    `input_tokens`, `thinking_tokens` and `searches`, queries of the web, are those of all calls;
    `prices` are the built-in ones if None.
    """
    known, tokens = models.find(model), _tokens_per_image(model, image_size)
    image_tokens = calls * (tokens or _GUESSED_OUTPUT_TOKENS)
    output_tokens = image_tokens + thinking_tokens
    price = (prices or built_in()).get(model)
    image_usd = _image_usd(price, image_size, calls, image_tokens if tokens else None)
    times = tier_factor(model, service_tier, prices)
    if price is None or image_usd is None or times is None:
        return Estimate(input_tokens, output_tokens, None)
    most_tokens = max(calls * EXTRA_OUTPUT_TOKENS, round(thinking_tokens * _MOST_TIMES_THE_MEAN))
    longest_tokens = calls * (known.max_output_tokens if known else models.MAX_OUTPUT_TOKENS)
    text_usd_per_mtok = price.text_output_usd_per_mtok
    standard_usd = (
        image_usd
        + _usd(input_tokens, price.input_usd_per_mtok)
        + _usd(thinking_tokens, text_usd_per_mtok)
    )
    search_usd, worst = searches * SEARCH_USD, max(times, 1.0)
    return Estimate(
        input_tokens,
        output_tokens,
        cost_usd=standard_usd * times + search_usd,
        extra_usd=_usd(most_tokens - thinking_tokens, text_usd_per_mtok) * worst,
        max_extra_usd=_usd(longest_tokens, text_usd_per_mtok) * worst,
        standard_usd=standard_usd + search_usd if times < 1.0 else None,
    )


def tier_factor(model: str, tier: ServiceTier, prices: PriceTable | None = None) -> float | None:
    """Return what multiplies the standard price in a service tier; None if that is unknown.

    Flex never costs more than standard, which is its price where a model has no other.
    """
    found = factor(model, tier, prices)
    return 1.0 if found is None and tier == "flex" else found


def booked_factor(
    model: str, asked: ServiceTier, served: str | None, prices: PriceTable | None = None
) -> float:
    """Return what multiplies the standard price of an answer.

    It is of the tier that was served. If the answer does not say, or names one without a price, it
    is the more expensive of the tier that was asked for and standard.
    """
    if served in SERVICE_TIERS:
        found = tier_factor(model, served, prices)
        if found is not None:
            return found
    return max(1.0, tier_factor(model, asked, prices) or 1.0)


def input_tokens(model: str, *, input_images: int = 0, prompt_bytes: int = 0) -> int:
    """Return the approximate input tokens of one call; `prompt_bytes` are those of UTF-8."""
    known = models.find(model)
    per_image = known.input_image_tokens if known else _GUESSED_INPUT_IMAGE_TOKENS
    return input_images * per_image - (-prompt_bytes // PROMPT_BYTES_PER_TOKEN)


def cost_usd(
    model: str,
    usage: Usage | None,
    images: int,
    image_size: str = models.DEFAULT_IMAGE_SIZE,
    *,
    blocked: bool = False,
    has_text: bool = False,
    input_tokens: int = 0,
    searches: int = 0,
    times: float = 1.0,
    prices: PriceTable | None = None,
) -> float | None:
    """Return the cost of an answer at list price; None, never 0, if it can't be known.

    The server's totals are used if it sent them: its details by modality add up to less than it
    bills. Counts that can't be true are those of the estimate: see `credible`. `images` includes
    drafts. `blocked` is a safety or policy answer without an image, which is not charged
    (https://ai.google.dev/gemini-api/docs/pricing, 2026-11-22). `input_tokens` are the estimated
    ones, for a usage without them; `searches` are its queries of the web, and `times` its
    `booked_factor`.
    """
    price = (prices or built_in()).get(model)
    if price is None:
        return None
    search_usd = searches * SEARCH_USD
    if blocked and not images:
        return search_usd
    usage = credible(model, usage, images, image_size, has_text=has_text)
    output = _output_tokens(usage)
    if output is None and not images:
        return None
    image_tokens = _image_tokens(model, usage, images, image_size, output)
    image_usd = _image_usd(price, image_size, images, image_tokens)
    if image_usd is None:
        return None
    text_tokens = max(0, (output or 0) - (image_tokens or 0))
    prompt_tokens = usage.prompt_tokens if usage else None
    standard_usd = (
        image_usd
        + _usd(input_tokens if prompt_tokens is None else prompt_tokens, price.input_usd_per_mtok)
        + _usd(text_tokens, price.text_output_usd_per_mtok)
    )
    return standard_usd * times + search_usd


def credible(
    model: str,
    usage: Usage | None,
    images: int,
    image_size: str = models.DEFAULT_IMAGE_SIZE,
    *,
    has_text: bool = False,
) -> Usage | None:
    """Return an answer's prompt, output and image tokens without those that can't be true.

    Servers other than Google's count nothing, or something else. An image takes at least the
    tokens of its size, a text one token, and no answer takes more than the API allows.
    """
    if usage is None:
        return None
    prompt = usage.prompt_tokens
    if prompt is not None and not 0 < prompt <= _MAX_PROMPT_TOKENS:
        prompt = None
    least = (_tokens_per_image(model, image_size) or 1) if images else int(has_text)
    output, served = _output_tokens(usage), _served_image_tokens(usage)
    most = _MAX_ANSWER_TOKENS if output is None else min(output, _MAX_ANSWER_TOKENS)
    bounds = ((output, least, _MAX_ANSWER_TOKENS), (served, least if images else 0, most))
    for count, at_least, at_most in bounds:
        if count is not None and not at_least <= count <= at_most:
            return None if prompt is None else Usage(prompt)
    return Usage(prompt, candidates_tokens=output, by_modality=usage.by_modality)


def _output_tokens(usage: Usage | None) -> int | None:
    """Return the output tokens: by the total, unless it is less than one of its parts.

    On Pro the candidates have the thoughts in them (measured, 2026-11-22): their sum would count
    these twice.
    """
    if usage is None:
        return None
    parts = [each for each in (usage.candidates_tokens, usage.thoughts_tokens) if each is not None]
    if usage.total_tokens is not None:
        by_total = max(0, usage.total_tokens - (usage.prompt_tokens or 0))
        if by_total >= max(parts, default=0):
            return by_total
    return sum(parts) if parts else None


def _served_image_tokens(usage: Usage | None) -> int | None:
    return usage.by_modality.get("candidates", {}).get("IMAGE") if usage else None


def thinking_and_text_tokens(usage: Usage | None) -> int | None:
    """Return the output tokens that are not of images; None if unknown."""
    output = _output_tokens(usage)
    images = _served_image_tokens(usage)
    return None if output is None or images is None else max(0, output - images)


def _image_tokens(
    model: str, usage: Usage | None, images: int, size: str, output: int | None
) -> int | None:
    """Return the image tokens, as served, else the model's number per size; None if unknown."""
    served = _served_image_tokens(usage)
    if served is not None:
        return served
    if not images:
        return 0
    tokens = _tokens_per_image(model, size)
    if tokens is None:
        return output  # all of it counts as image, which is more expensive than text
    return images * tokens if output is None else min(output, images * tokens)


def _tokens_per_image(model: str, size: str) -> int | None:
    known = models.find(model)
    return known.output_tokens.get(size) if known else None


def _image_usd(
    price: ModelPrice | None, size: str, images: int, tokens: int | None
) -> float | None:
    """Return the cost of images: flat, else of their tokens; None if it can't be known."""
    if price is None:
        return None
    if size in price.image_usd:
        return images * price.image_usd[size]
    rate = price.image_output_usd_per_mtok
    return None if tokens is None or rate is None else _usd(tokens, rate)


def _usd(tokens: int, usd_per_mtok: float | None) -> float:
    return tokens * (usd_per_mtok or 0.0) / _MTOK
