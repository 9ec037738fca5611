"""The mean thinking of an answer, by model and level: the table's, corrected by recent answers."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gemini_batch.catalog import models, prices
from gemini_batch.catalog.observations import Observations
from gemini_batch.records import Usage

ANSWERS = 256
"""So many recent answers count: a manifest may change from one kind of prompt to another."""


@dataclass(eq=False, slots=True)
class ThinkingTokens:
    """Tokens of thinking and text, by (model, level)."""

    _answers: defaultdict[tuple[str, str | None], Observations] = field(
        default_factory=lambda: defaultdict(Observations)
    )

    def mean(self, model: str, level: str | None = None) -> int:
        """Return the expected tokens of one answer at a level; None is the model's own."""
        expected = models.thinking_tokens(model, level)
        answers = self._answers.get((model, level))
        return round(answers.mean(expected)) if answers else expected

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows with an image into account; a usage that names no image tokens says nothing."""
        for row in rows:
            tokens = _tokens(row)
            if tokens is None:
                continue
            match row.get("model"), row.get("thinking"):
                case (str(model), str() | None as level):
                    self._answers[model, level].add(tokens)


def _tokens(row: Mapping[str, Any]) -> int | None:
    """Return the tokens of a row's answer, as far as they can be true."""
    usage = row["usage"]
    if not row["images"] or row.get("reused_from") or not isinstance(usage, dict):
        return None
    try:
        tokens = prices.thinking_and_text_tokens(Usage(**usage))
    except (TypeError, AttributeError):  # a row of another version
        return None
    is_possible = tokens is not None and 0 <= tokens <= models.MAX_OUTPUT_TOKENS
    return tokens if is_possible else None
