"""One value that says how a simulator behaves."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from gemini_batch.clock import Clock
from gemini_batch.errors import ConfigError

Enforce: TypeAlias = Literal["sliding", "fixed", "bucket"]
ENFORCE: tuple[Enforce, ...] = ("sliding", "fixed", "bucket")

GOOD_KEY = re.compile(r"[\x21-\x7e]+")  # what a header can carry
# Least, most, and both in words.
_MAX_MINUTE_S = 86_400
_RANGES = {
    "port": (0, 65_535, "0 to 65535"),
    "pixels": (8, 8192, "8 to 8192"),
    **dict.fromkeys(
        (
            "requests_per_min",
            "requests_per_day",
            "tokens_per_min",
            "images_per_min",
            "usd_per_10min",
        ),
        (0, 10**12, "0 to 1,000,000,000,000"),
    ),
    **dict.fromkeys(("latency_s", "hang_s"), (0, math.inf, "0 or more seconds")),
}

# The project brief's table: https://ai.google.dev/gemini-api/docs/rate-limits no longer lists numbers (2026-11-22). Requests a
# minute, requests a day; None is no limit.
TIERS: dict[str, tuple[int | None, int | None]] = {
    "free": (15, 1500),
    "pay-as-you-go": (60, 10_000),
    "unlimited": (None, None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """How a simulator behaves; every field has a default that suits a test.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        tier: `free`, `pay-as-you-go` or `unlimited`: where the limits of requests come from.
        requests_per_min: In place of the tier's; 0 means that the project has no quota at all (`limit: 0`).
        requests_per_day: In place of the tier's.
        tokens_per_min: Input tokens; None is no limit.
        images_per_min: Pictures; None is no limit.
        usd_per_10min: Dollars at list price in ten minutes; None is no limit.
        enforce: What a minute is: the last 60 seconds (`sliding`), the clock's (`fixed`), or a bucket that starts full.
        minute_s: Seconds that the server calls a minute, shorter for tests. Ten minutes are ten of these.
        day_zone: The zone whose midnight begins a day of the quota.
        count_rejected: Whether a request that was answered with 429 counts like any other.
        key: The one valid key; None takes every key that looks like one.
        latency_s: Least seconds from a request to its answer.
        realistic_latency: Take the model's own median in place of `latency_s`, spread as real answers are.
        seed: Of pictures and faults.
        rates: Share of requests, 0 to 1, by the name of a fault.
        faults: A TOML file of rates and rules, see `gemini_batch.simulator.schedule`.
        pixels: Longest side of a picture; None is the documented size. Small pictures make fast tests.
        vary: Whether the same request gets another picture each time it is answered, as people expect of variants.
        image_bytes: Fill each picture up to this size, for benchmarks; None leaves it as it is.
        pretty: Whether JSON is indented, as the API's is.
        gzip: Whether to compress for clients that accept it.
        max_request_bytes: A longer body is refused; the API documents 100 MB, and 20 MB on older pages.
        hang_s: Longest time that a hanging answer hangs.
        clock: Where time comes from.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tier: str = "free"
    requests_per_min: int | None = None
    requests_per_day: int | None = None
    tokens_per_min: int | None = None
    images_per_min: int | None = None
    usd_per_10min: float | None = None
    enforce: Enforce = "sliding"
    minute_s: float = 60.0
    day_zone: str = "America/Los_Angeles"
    count_rejected: bool = True
    key: str | None = None
    latency_s: float = 0.3
    realistic_latency: bool = False
    seed: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    faults: Path | None = None
    pixels: int | None = None
    vary: bool = True
    image_bytes: int | None = None
    pretty: bool = True
    gzip: bool = False
    max_request_bytes: int = 100 * 1024 * 1024
    hang_s: float = 600.0
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        """Refuse values that no server could have.

        Raises:
            ConfigError: A field is out of its range.
        """
        if self.tier not in TIERS:
            raise ConfigError(f"tier: got {self.tier!r}; allowed: {', '.join(TIERS)}")
        if self.enforce not in ENFORCE:
            raise ConfigError(f"enforce: got {self.enforce!r}; allowed: {', '.join(ENFORCE)}")
        try:
            ZoneInfo(self.day_zone)
        except (OSError, ValueError, KeyError) as problem:
            words = f"day_zone: got {self.day_zone!r}; allowed: a zone such as America/Los_Angeles"
            raise ConfigError(words) from problem
        if self.key is not None and not GOOD_KEY.fullmatch(self.key):
            raise ConfigError(
                "key: can't be sent; allowed: at least one character, ASCII without spaces"
            )
        if not 0 < self.minute_s <= _MAX_MINUTE_S:
            raise ConfigError(
                f"minute_s: got {self.minute_s}; allowed: more than 0 and up to {_MAX_MINUTE_S:,} seconds"
            )
        for name, (least, most, words) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (least <= value <= most and value < math.inf):
                raise ConfigError(f"{name}: got {value}; allowed: {words}")

    @property
    def minute_limit(self) -> int | None:
        """Requests a minute, from the field or the tier."""
        return TIERS[self.tier][0] if self.requests_per_min is None else self.requests_per_min

    @property
    def day_limit(self) -> int | None:
        """Requests a day, from the field or the tier."""
        return TIERS[self.tier][1] if self.requests_per_day is None else self.requests_per_day
