"""Named tiers: the `Limits` of a run from built-in numbers, the user's tables and flags."""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from gemini_batch.catalog import built_in_table
from gemini_batch.errors import ConfigError
from gemini_batch.records import Limits
from gemini_batch.wording import choices, did_you_mean, shown

Table: TypeAlias = Mapping[str, Any]

FLAGS = {
    "requests_per_min": "--rpm",
    "tokens_per_min": "--tpm",
    "images_per_min": "--ipm",
    "requests_per_day": "--rpd",
    "usd_per_10min": "--usd-per-10min",
    "usd_per_day": "--usd-per-day",
}
"""The flag that overrides each number of a tier."""

# More than any project has. Sums of these numbers, and of millionths of these dollars, fit 64 bits,
# and each is less than the ledger's value for "unknown, so all of it is used".
_COUNT = ((int,), 1, 10**12, "a whole number from 1 to 1,000,000,000,000")
_USD = ((int, float), 1e-6, 10**8, "dollars, from 0.000001 to 100,000,000")
_RANGES: dict[str, tuple[tuple[type, ...], float, float, str]] = {
    **dict.fromkeys(FLAGS, _COUNT),
    "usd_per_10min": _USD,
    "usd_per_day": _USD,
    "minute_s": ((int, float), 0.001, 86_400, "seconds, from 0.001 to 86,400"),
}


def limits_of(
    name: str, table: Table | None = None, overrides: Table | None = None, *, source: str = "config"
) -> Limits:
    """Return the limits of a tier: flags override the user's table, that the built-in one.

    `table` is the config file's table `tiers`, and `source` the file's name in messages.
    `overrides` are the flags, by the name of their field in `Limits`; one not given is None.

    Raises:
        ConfigError: There is no such tier, a number is invalid, a key is unknown, or the tier has
            no limit at all.
    """
    own = _checked_tiers(table or {}, source)
    built_in = _built_in()
    if name not in own and name not in built_in:
        known = {**built_in, **own}
        near = did_you_mean(name, known)
        raise ConfigError(f'--tier: got "{name}"; {near}{near and " "}allowed: {choices(known)}')
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    for key, value in given.items():
        _check(FLAGS.get(key, "--minute"), key, value)
    numbers = {**built_in.get(name, {}), **own.get(name, {}), **given}
    if not numbers.keys() & FLAGS.keys():
        raise ConfigError(
            f'--tier: "{name}" has no numbers of its own; give the limits of your project by '
            f"at least one of {', '.join(FLAGS.values())}, "
            f"or in a table [tiers.{name}] of a config file"
        )
    return Limits(**numbers)


@cache
def _built_in() -> dict[str, dict[str, Any]]:
    return _checked_tiers(built_in_table("tiers.toml")["tiers"], "tiers.toml")


def _checked_tiers(table: Table, source: str) -> dict[str, dict[str, Any]]:
    """Return the numbers of each tier after checking every key and value."""
    if not isinstance(table, Mapping):
        raise ConfigError(
            f"{source}: tiers: got {shown(table)}; allowed: tables such as [tiers.mine]"
        )
    return {name: _checked_tier(tier, f"{source}: tiers.{name}") for name, tier in table.items()}


def _checked_tier(tier: Any, where: str) -> dict[str, Any]:
    if not isinstance(tier, Mapping):
        raise ConfigError(f"{where}: got {shown(tier)}; allowed: a table with {choices(_RANGES)}")
    numbers = {key: value for key, value in tier.items() if key != "source"}  # it is for readers
    for key, value in numbers.items():
        if key not in _RANGES:
            allowed = choices((*_RANGES, "source"))
            raise ConfigError(f'{where}: unknown key "{key}"; allowed: {allowed}')
        _check(f"{where}.{key}", key, value)
    return numbers


def _check(where: str, key: str, value: Any) -> None:
    types, least, most, allowed = _RANGES[key]
    # In Python, TOML's true is an int, and its inf and nan are floats.
    if type(value) not in types or not least <= value <= most:
        raise ConfigError(f"{where}: got {shown(value)}; allowed: {allowed}")
