"""`Usage`: the tokens of an answer."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Usage:
    """Token usage as the server counts it; numbers that it left out are None."""

    prompt_tokens: int | None = None
    candidates_tokens: int | None = None
    thoughts_tokens: int | None = None
    total_tokens: int | None = None
    by_modality: dict[str, dict[str, int]] = field(default_factory=dict)
