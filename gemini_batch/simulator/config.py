"""Configuration of a simulator."""

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

GOOD_KEY = re.compile(r"[\x21-\x7e]+")  # characters that a header can carry
# Field -> minimum, maximum, and the range as text.
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
            "batch_tokens",
            "max_batches",
            "max_file_bytes",
            "max_stored_bytes",
        ),
        (0, 10**12, "0 to 1,000,000,000,000"),
    ),
    **dict.fromkeys(
        ("latency_s", "hang_s", "token_s", "batch_turnaround_s"),
        (0, math.inf, "0 or more seconds"),
    ),
}

# Requests per minute, requests per day; None means no limit. Numbers of the project brief:
# https://ai.google.dev/gemini-api/docs/rate-limits no longer lists any (2026-11-22).
TIERS: dict[str, tuple[int | None, int | None]] = {
    "free": (15, 1500),
    "pay-as-you-go": (60, 10_000),
    "unlimited": (None, None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """Behaviour of a simulator; every default suits tests.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        tier: `free`, `pay-as-you-go` or `unlimited`: source of the default request limits.
        requests_per_min: Overrides the tier's; 0 means that the project has no quota (`limit: 0`).
        requests_per_day: Overrides the tier's.
        tokens_per_min: Input tokens; None means no limit.
        images_per_min: Images; None means no limit.
        usd_per_10min: USD at list price in ten minutes; None means no limit.
        enforce: Kind of a minute's window: the last 60 seconds (`sliding`), the clock's minute
            (`fixed`), or a token bucket that starts full (`bucket`).
        minute_s: Length of a quota minute in seconds, shorter for tests. Ten minutes are ten of
            these.
        day_zone: The time zone whose midnight begins a day of the quota.
        count_rejected: Whether a request that was answered with 429 counts against the quota.
        key: The only valid key; None accepts every well-formed key.
        vertex: Whether it is Vertex AI: with its paths, and with a login instead of a key. `key` is
            then the only valid token besides those of its own `/token`.
        token_s: Seconds that such a token is valid.
        latency_s: Minimum seconds from a request to its answer.
        realistic_latency: Use the model's median instead of `latency_s`, with the spread of real
            answers.
        seed: Seed of images and faults.
        rates: Share of requests, 0 to 1, by fault name.
        faults: A TOML file with rates and rules, see `gemini_batch.simulator.schedule`.
        pixels: Longest side of an image; None is the documented size. Small images make tests fast.
        vary: Whether a repeated request gets a different image each time, as with variants.
        image_bytes: Pad each image to this size, for benchmarks; None adds no padding.
        pretty: Whether JSON is indented, like the API's.
        gzip: Whether to compress answers for clients that accept gzip.
        max_request_bytes: Longer bodies are refused; the API documents 100 MB, and 20 MB on older
            pages.
        hang_s: Maximum seconds of a hanging answer.
        batch_turnaround_s: Seconds from the creation of a batch to its end.
        batch_tokens: Input tokens of one model in all open batches of a project; None is the
            model's documented limit on the first paid tier, and no limit with `unlimited`.
        max_batches: Open batches of a project.
        max_file_bytes: Size of an uploaded file.
        max_stored_bytes: Size of all files of a project.
        clock: Source of time.
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
    vertex: bool = False
    token_s: float = 3600.0
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
    batch_turnaround_s: float = 0.0
    batch_tokens: int | None = None
    max_batches: int = 100
    max_file_bytes: int = 2 * 1024**3
    max_stored_bytes: int = 20 * 1024**3
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        """Reject values out of range.

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
            message = (
                f"day_zone: got {self.day_zone!r}; allowed: a zone such as America/Los_Angeles"
            )
            raise ConfigError(message) from problem
        if self.key is not None and not GOOD_KEY.fullmatch(self.key):
            raise ConfigError(
                "key: can't be sent; allowed: at least one character, ASCII without spaces"
            )
        if not 0 < self.minute_s <= _MAX_MINUTE_S:
            raise ConfigError(
                f"minute_s: got {self.minute_s}; "
                f"allowed: more than 0 and up to {_MAX_MINUTE_S:,} seconds"
            )
        for name, (lowest, highest, allowed) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (lowest <= value <= highest and value < math.inf):
                raise ConfigError(f"{name}: got {value}; allowed: {allowed}")

    @property
    def minute_limit(self) -> int | None:
        """Requests per minute, from the field or the tier."""
        return TIERS[self.tier][0] if self.requests_per_min is None else self.requests_per_min

    @property
    def day_limit(self) -> int | None:
        """Requests per day, from the field or the tier."""
        return TIERS[self.tier][1] if self.requests_per_day is None else self.requests_per_day
