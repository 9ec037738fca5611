"""The cost of a call at list price, estimated or from the server's token counts.

::

    cost = prompt tokens · input rate + image tokens · image rate + other output tokens · text rate

The data is in `prices.toml`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

from gemini_batch.catalog import models
from gemini_batch.errors import ConfigError
from gemini_batch.records import Estimate, Usage
from gemini_batch.wording import choices, shown, suggest

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
# More is no count of one answer, of a new model either; nor is such a prompt: the longest of any
# Gemini model was 2,097,152 tokens, of 1.5 Pro (Google's model pages, 2026-11-22).
_MAX_ANSWER_TOKENS, _MAX_PROMPT_TOKENS = 4 * models.MAX_OUTPUT_TOKENS, 2_097_152
_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of one model in USD. None is unknown, and counts 0 except for images.

    Attributes:
        input_usd_per_mtok: A million prompt tokens, reference images included.
        text_output_usd_per_mtok: A million output tokens of text and thinking.
        image_output_usd_per_mtok: A million output tokens of images.
        image_usd: A flat price for one image by size; it replaces the image rate.
    """

    input_usd_per_mtok: float | None = None
    text_output_usd_per_mtok: float | None = None
    image_output_usd_per_mtok: float | None = None
    image_usd: Mapping[str, float] = field(default_factory=dict)


PriceTable: TypeAlias = Mapping[str, ModelPrice]
"""Prices by model id."""


def merged(prices: PriceTable, table: Any) -> PriceTable:
    """Return the prices, overridden key by key by a user's `[prices]`.

    Raises:
        ConfigError: A key or a value of the user's table is wrong; the text names it.
    """
    if not isinstance(table, Mapping):
        allowed = 'must be tables such as [prices."MODEL"]'
        raise ConfigError(f"--config: prices: got {shown(table)}; {allowed}")
    return {**prices} | {
        model: _overridden(prices.get(model, ModelPrice()), model, entry)
        for model, entry in table.items()
    }


@cache
def built_in() -> PriceTable:
    """Return the list prices that come with this version."""
    table = tomllib.loads(resources.files(__package__).joinpath("prices.toml").read_text("utf-8"))
    return merged({}, table["prices"])


def estimate(
    model: str,
    image_size: str = models.DEFAULT_IMAGE_SIZE,
    *,
    calls: int = 1,
    input_tokens: int = 0,
    thinking_tokens: int = 0,
    prices: PriceTable | None = None,
) -> Estimate:
    """Return the expected usage of calls for one image each.

    `input_tokens` and `thinking_tokens` are those of all calls; `prices` are the built-in ones if
    None.
    """
    known, tokens = models.find(model), _tokens_per_image(model, image_size)
    image_tokens = calls * (tokens or _GUESSED_OUTPUT_TOKENS)
    output_tokens = image_tokens + thinking_tokens
    price = (prices or built_in()).get(model)
    image_usd = _image_usd(price, image_size, calls, image_tokens if tokens else None)
    if price is None or image_usd is None:
        return Estimate(input_tokens, output_tokens, None)
    most_tokens = max(calls * EXTRA_OUTPUT_TOKENS, round(thinking_tokens * _MOST_TIMES_THE_MEAN))
    longest_tokens = calls * (known.max_output_tokens if known else models.MAX_OUTPUT_TOKENS)
    text_usd_per_mtok = price.text_output_usd_per_mtok
    return Estimate(
        input_tokens,
        output_tokens,
        cost_usd=image_usd
        + _usd(input_tokens, price.input_usd_per_mtok)
        + _usd(thinking_tokens, text_usd_per_mtok),
        extra_usd=_usd(most_tokens - thinking_tokens, text_usd_per_mtok),
        max_extra_usd=_usd(longest_tokens, text_usd_per_mtok),
    )


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
    prices: PriceTable | None = None,
) -> float | None:
    """Return the cost of an answer at list price; None, never 0, if it can't be known.

    The server's totals are used if it sent them: its details by modality add up to less than it
    bills. Counts that can't be true are those of the estimate: see `credible`. `images` includes
    drafts. `blocked` is a safety or policy answer without an image, which is not charged
    (https://ai.google.dev/gemini-api/docs/pricing, 2026-11-22). `input_tokens` are the estimated
    ones, for a usage without them.
    """
    price = (prices or built_in()).get(model)
    if price is None:
        return None
    if blocked and not images:
        return 0.0
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
    return (
        image_usd
        + _usd(input_tokens if prompt_tokens is None else prompt_tokens, price.input_usd_per_mtok)
        + _usd(text_tokens, price.text_output_usd_per_mtok)
    )


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


# More than any price; the sum of a million calls is still a number.
_MAX_USD = 100_000_000
_KEYS = tuple(each.name for each in fields(ModelPrice))


def _overridden(price: ModelPrice, model: str, entry: Any) -> ModelPrice:
    """Return the price, overridden by a table's entry."""
    where = f'--config: prices."{model}"'
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{where}: got {shown(entry)}; must be a table with {choices(_KEYS)}")
    changes: dict[str, Any] = {}
    for key, value in entry.items():
        if key not in _KEYS:
            raise ConfigError(f"{where}.{key}: no such price; {suggest(key, _KEYS)}")
        if key == "image_usd":
            changes[key] = {**price.image_usd, **_sizes(f"{where}.{key}", model, value)}
        else:
            changes[key] = _amount(f"{where}.{key}", value)
    return replace(price, **changes)


def _sizes(where: str, model: str, value: Any) -> dict[str, float]:
    """Return prices by size; a known model must have these sizes."""
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"{where}: got {shown(value)}; must be a table of sizes such as {{ 1K = 0.05 }}"
        )
    known = models.find(model)
    offered = known.image_sizes if known else tuple(value)
    for size in value:
        if size not in offered:
            raise ConfigError(f"{where}: got {shown(size)}; {model} offers {choices(offered)}")
    return {size: _amount(f"{where}.{size}", usd) for size, usd in value.items()}


def _amount(where: str, value: Any) -> float:
    # In Python, TOML's true is an int, and its inf and nan are floats.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_USD:
        allowed = f"an amount of USD, from 0 to {_MAX_USD:,}"
        raise ConfigError(f"{where}: got {shown(value)}; must be {allowed}")
    return float(value)
