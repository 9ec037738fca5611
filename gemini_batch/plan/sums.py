"""Sums over the calls of a plan."""

from dataclasses import dataclass, replace

MAX_UNKNOWN_FIELDS = 20
"""Further names are not collected: each line may have one of its own."""


@dataclass(slots=True)
class CallTotals:
    """Sums over calls to be sent, and the largest one, which must fit into the quota of a minute.

    `cost_usd` is None when a price is unknown. `thinking_tokens` are those beyond the level that
    the model has by default; `searches` are queries of the web.
    """

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    largest_input_tokens: int = 0
    largest_line: int = 0
    thinking_tokens: int = 0
    searches: int = 0

    def add(self, calls: int, input_tokens: int, line: int) -> None:
        """Add calls of `input_tokens` each; 0 calls if all of a job's are reused."""
        self.calls += calls
        self.input_tokens += calls * input_tokens
        if input_tokens > self.largest_input_tokens:
            self.largest_input_tokens, self.largest_line = input_tokens, line

    def __add__(self, other: "CallTotals") -> "CallTotals":
        largest = max(self, other, key=lambda each: each.largest_input_tokens)
        known = self.cost_usd is not None and other.cost_usd is not None
        return replace(
            largest,
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            thinking_tokens=self.thinking_tokens + other.thinking_tokens,
            searches=self.searches + other.searches,
            cost_usd=(self.cost_usd or 0.0) + (other.cost_usd or 0.0) if known else None,
        )


@dataclass(slots=True)
class UnknownField:
    """A field of raw requests that the API may not have: its jobs, and the line of the first."""

    jobs: int
    first_line: int

    def warning(self, field: str) -> str:
        """Return the text for the user, after the manifest's line."""
        lines = "1 line has" if self.jobs == 1 else f"{self.jobs:,} lines have"
        known = "not a field that this version knows; it is sent as it stands, and may be refused"
        return f"{field}: {known} ({lines} it)"


@dataclass(slots=True)
class DownscaleTotals:
    """Sums over the reference images that are downscaled; one that is sent twice counts twice.

    `size_bytes` is of the originals, `upload_bytes` of the copies: an estimate by their pixels.
    """

    images: int = 0
    size_bytes: int = 0
    upload_bytes: int = 0
