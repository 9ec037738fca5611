"""The list prices of models: built in, and overridden by a user's table.

The data is in `prices.toml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any, Literal, TypeAlias

from gemini_batch.catalog import built_in_table, models
from gemini_batch.errors import ConfigError
from gemini_batch.wording import choices, shown, suggest

PriceKind: TypeAlias = Literal["standard", "batch", "flex", "priority"]
"""A kind of price: the standard one, or one that is a multiple of it."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of one model in USD. None is unknown, and counts 0 except for images.

    Attributes:
        input_usd_per_mtok: A million prompt tokens, reference images included.
        text_output_usd_per_mtok: A million output tokens of text and thinking.
        image_output_usd_per_mtok: A million output tokens of images.
        image_usd: A flat price for one image by size; it replaces the image rate.
        batch_factor: Multiplies all these in the Batch API; None if it has no such price.
        flex_factor: The same for the service tier flex.
        priority_factor: The same for the service tier priority.
    """

    input_usd_per_mtok: float | None = None
    text_output_usd_per_mtok: float | None = None
    image_output_usd_per_mtok: float | None = None
    image_usd: Mapping[str, float] = field(default_factory=dict)
    batch_factor: float | None = None
    flex_factor: float | None = None
    priority_factor: float | None = None


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
    return merged({}, built_in_table("prices.toml")["prices"])


def scaled(prices: PriceTable, times: float) -> PriceTable:
    """Return the prices with all rates multiplied."""
    if times == 1.0:
        return prices
    return {
        model: replace(
            price,
            input_usd_per_mtok=_times(price.input_usd_per_mtok, times),
            text_output_usd_per_mtok=_times(price.text_output_usd_per_mtok, times),
            image_output_usd_per_mtok=_times(price.image_output_usd_per_mtok, times),
            image_usd={size: usd * times for size, usd in price.image_usd.items()},
        )
        for model, price in prices.items()
    }


def _times(rate: float | None, times: float) -> float | None:
    return None if rate is None else rate * times


# More than any price; the sum of a million calls is still a number.
_MAX_USD = 100_000_000
_MAX_FACTOR = 100
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
        elif key.endswith("_factor"):
            changes[key] = _checked_factor(f"{where}.{key}", value)
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


def _checked_factor(where: str, value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value <= _MAX_FACTOR:
        allowed = f"a number above 0, at most {_MAX_FACTOR}"
        raise ConfigError(f"{where}: got {shown(value)}; must be {allowed}")
    return float(value)


def _amount(where: str, value: Any) -> float:
    # In Python, TOML's true is an int, and its inf and nan are floats.
    if type(value) not in (int, float) or not 0 <= value <= _MAX_USD:
        allowed = f"an amount of USD, from 0 to {_MAX_USD:,}"
        raise ConfigError(f"{where}: got {shown(value)}; must be {allowed}")
    return float(value)
