"""What a call costs at list price: before it is sent, and once the server has counted its tokens; data in `prices.toml`.

::

    cost = prompt tokens · input rate + image tokens · image rate + the other output tokens · text rate
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from typing import Any

from gemini_batch.catalog import models
from gemini_batch.records import Estimate, Usage
from gemini_batch.wording import choices, shown, unknown

# "A token is equivalent to about 4 characters": https://ai.google.dev/gemini-api/docs/tokens (2026-11-22). Bytes of UTF-8
# come nearer than characters where a character is more than one byte.
PROMPT_BYTES_PER_TOKEN = 4
# For a model that is not in models.toml; the numbers of Pro, which has the largest.
_GUESSED_OUTPUT_TOKENS = 1120
_GUESSED_INPUT_IMAGE_TOKENS = 560
# Output beside the image: 88 to 630 tokens in 66 answers that were measured through a gateway (collected 2026-11-22).
EXTRA_OUTPUT_TOKENS = 630
# The longest answer of any image model, thinking included (Google's model pages, 2026-11-22).
MAX_OUTPUT_TOKENS = 32_768
_MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of one model in USD; None is not known, and counts 0 but for images.

    Attributes:
        input_usd_per_mtok: A million prompt tokens, reference images included.
        text_output_usd_per_mtok: A million output tokens that are no image: text and thinking.
        image_output_usd_per_mtok: A million output tokens of images.
        image_usd: A flat price for one image by size; where given, it stands in place of the image rate.
    """

    input_usd_per_mtok: float | None = None
    text_output_usd_per_mtok: float | None = None
    image_output_usd_per_mtok: float | None = None
    image_usd: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model id."""

    prices: Mapping[str, ModelPrice]

    def merged(self, table: Mapping[str, Any]) -> "PriceTable":
        """Return this table with a user's `[prices]` over it, key by key.

        Raises:
            ValueError: A key or a value of the user's table is wrong; the text names it.
        """
        prices = dict(self.prices)
        for model, entry in table.items():
            prices[model] = _priced(model, prices.get(model, ModelPrice()), entry)
        return PriceTable(prices)

    def image_usd(self, model: str, image_size: str | None = None) -> float | None:
        """Return the price of one image, without prompt and thinking; None when it is not known."""
        price = self.prices.get(model)
        return _image_usd(price, model, image_size or models.DEFAULT_IMAGE_SIZE) if price else None


@cache
def built_in() -> PriceTable:
    """Return the list prices that come with this version."""
    table = tomllib.loads(resources.files(__package__).joinpath("prices.toml").read_text("utf-8"))
    return PriceTable({}).merged(table["prices"])


def estimate(
    model: str,
    image_size: str | None = None,
    *,
    input_images: int = 0,
    prompt_bytes: int = 0,
    prices: PriceTable | None = None,
) -> Estimate:
    """Return what one call for one image is expected to use; thinking is not foreseen.

    Args:
        model: The model's id.
        image_size: The size asked for; None is 1K.
        input_images: How many reference images.
        prompt_bytes: Length of all texts in UTF-8.
        prices: The prices that hold; the built-in list if None.
    """
    tokens = input_tokens(model, input_images=input_images, prompt_bytes=prompt_bytes)
    return estimate_all(model, image_size, calls=1, input_tokens=tokens, prices=prices)


def estimate_all(
    model: str,
    image_size: str | None = None,
    *,
    calls: int,
    input_tokens: int,
    prices: PriceTable | None = None,
) -> Estimate:
    """Return what several calls for one image each are expected to use, given the sum of their input tokens."""
    known, size = models.find(model), image_size or models.DEFAULT_IMAGE_SIZE
    output_tokens = calls * (
        (known.output_tokens.get(size) if known else None) or _GUESSED_OUTPUT_TOKENS
    )
    price = (prices or built_in()).prices.get(model)
    image_usd = _image_usd(price, model, size) if price else None
    if price is None or image_usd is None:
        return Estimate(input_tokens, output_tokens, None)
    return Estimate(
        input_tokens,
        output_tokens,
        cost_usd=calls * image_usd + _usd(input_tokens, price.input_usd_per_mtok),
        extra_usd=_usd(calls * EXTRA_OUTPUT_TOKENS, price.text_output_usd_per_mtok),
        max_extra_usd=_usd(calls * MAX_OUTPUT_TOKENS, price.text_output_usd_per_mtok),
    )


def input_tokens(model: str, *, input_images: int = 0, prompt_bytes: int = 0) -> int:
    """Return about how many tokens the input of one call counts; `prompt_bytes` is the length of all texts in UTF-8."""
    tokens = -(-prompt_bytes // PROMPT_BYTES_PER_TOKEN)
    if input_images:
        known = models.find(model)
        tokens += input_images * (
            known.input_image_tokens if known else _GUESSED_INPUT_IMAGE_TOKENS
        )
    return tokens


def cost_usd(
    model: str,
    usage: Usage | None,
    images: int,
    image_size: str | None = None,
    *,
    blocked: bool = False,
    prices: PriceTable | None = None,
) -> float | None:
    """Return what an answer costs at list price, or None when that can't be known: never 0 for an unknown price.

    Totals are used where the server sent them: its details by modality add up to less than what it bills.

    Args:
        model: The model's id.
        usage: The tokens as the server counted them; None when it did not.
        images: How many images the answer has, drafts included.
        image_size: The size asked for; None is 1K.
        blocked: A safety or policy answer without an image, which is not charged
            (https://ai.google.dev/gemini-api/docs/pricing, 2026-11-22).
        prices: The prices that hold; the built-in list if None.
    """
    price, size = (prices or built_in()).prices.get(model), image_size or models.DEFAULT_IMAGE_SIZE
    if price is None:
        return None
    if blocked and not images:
        return 0.0
    output = _output_tokens(usage)
    image_tokens = _image_tokens(model, usage, images, size, output)
    if size in price.image_usd:
        image_usd: float | None = images * price.image_usd[size]
    elif image_tokens is None or price.image_output_usd_per_mtok is None:
        image_usd = None
    else:
        image_usd = _usd(image_tokens, price.image_output_usd_per_mtok)
    if image_usd is None or (output is None and not images):
        return None
    text_tokens = max(0, (output or 0) - (image_tokens or 0))
    prompt_tokens = (usage.prompt_tokens if usage else None) or 0
    return (
        image_usd
        + _usd(prompt_tokens, price.input_usd_per_mtok)
        + _usd(text_tokens, price.text_output_usd_per_mtok)
    )


def _output_tokens(usage: Usage | None) -> int | None:
    if usage is None:
        return None
    if usage.total_tokens is not None:
        return max(0, usage.total_tokens - (usage.prompt_tokens or 0))
    if usage.candidates_tokens is None and usage.thoughts_tokens is None:
        return None
    return (usage.candidates_tokens or 0) + (usage.thoughts_tokens or 0)


def _image_tokens(
    model: str, usage: Usage | None, images: int, size: str, output: int | None
) -> int | None:
    """Return the image part of the output: as served by modality, else the model's number a size; None if unknown."""
    served = usage.by_modality.get("candidates", {}).get("IMAGE") if usage else None
    if served is not None:
        return served
    if not images:
        return 0
    known = models.find(model)
    tokens_an_image = known.output_tokens.get(size) if known else None
    if tokens_an_image is None:
        return output  # nothing tells image from text: all of it counts as image, the dearer of the two
    return images * tokens_an_image if output is None else min(output, images * tokens_an_image)


def _image_usd(price: ModelPrice, model: str, size: str) -> float | None:
    if size in price.image_usd:
        return price.image_usd[size]
    known = models.find(model)
    tokens = known.output_tokens.get(size) if known else None
    rate = price.image_output_usd_per_mtok
    return None if tokens is None or rate is None else _usd(tokens, rate)


def _usd(tokens: int, usd_per_mtok: float | None) -> float:
    return tokens * (usd_per_mtok or 0.0) / _MTOK


_KEYS = tuple(each.name for each in fields(ModelPrice))


def _priced(model: str, price: ModelPrice, entry: Any) -> ModelPrice:
    """Return the price with a table's entry over it."""
    if not isinstance(entry, Mapping):
        raise ValueError(  # noqa: TRY004 - wrong data of a person, not a wrong type in code
            f'prices."{model}": got {shown(entry)}; must be a table with {", ".join(_KEYS)}'
        )
    changes: dict[str, Any] = {}
    for key, value in entry.items():
        where = f'prices."{model}".{key}'
        if key not in _KEYS:
            raise ValueError(f"{where}: no such price; {unknown(key, _KEYS)}")
        if key != "image_usd":
            changes[key] = _amount(where, value)
        elif isinstance(value, Mapping):
            _check_sizes(where, model, value)
            sizes = {size: _amount(f"{where}.{size}", usd) for size, usd in value.items()}
            changes[key] = {**price.image_usd, **sizes}
        else:
            raise ValueError(
                f"{where}: got {shown(value)}; must be a table of sizes such as {{ 1K = 0.05 }}"
            )
    return replace(price, **changes)


def _check_sizes(where: str, model: str, sizes: Mapping[str, Any]) -> None:
    """Make sure that a known model has these sizes: the price of another one would stand for nothing."""
    known = models.find(model)
    if known and (wrong := [size for size in sizes if size not in known.image_sizes]):
        raise ValueError(
            f"{where}: got {shown(wrong[0])}; {model} offers {choices(known.image_sizes)}"
        )


def _amount(where: str, value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < float("inf")
    ):
        raise ValueError(f"{where}: got {shown(value)}; must be an amount of USD, 0 or more")
    return float(value)
