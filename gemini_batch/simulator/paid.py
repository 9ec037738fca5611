"""Answers with an image, which the API charges for, by request: a test sees that each is one."""

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from gemini_batch.simulator.checks import ImageRequest

BATCH_PRICE = 0.5  # https://ai.google.dev/gemini-api/docs/pricing, 2026-10: half of the list price
_MAX_PROMPT_LENGTH = 200
_MAX_SHOWN = 10_000


@dataclass(slots=True)
class Paid:
    """One request: the beginning of its prompt, and the answers that it got by each route."""

    prompt: str
    interactive: int = 0
    batch: int = 0
    usd: float = 0.0


class PaidAnswers:
    """All paid answers, by the hash of their request: variants of a job are one request."""

    def __init__(self) -> None:
        self.by_request: dict[str, Paid] = {}

    def add(self, image_request: ImageRequest, *, is_batch: bool = False) -> None:
        """Count one answer with an image."""
        prompt = " ".join(image_request.prompt.split())[:_MAX_PROMPT_LENGTH]
        paid = self.by_request.setdefault(image_request.sha256, Paid(prompt))
        paid.batch += is_batch
        paid.interactive += not is_batch
        paid.usd += image_request.usd * (BATCH_PRICE if is_batch else 1.0)

    def report(self) -> list[dict[str, Any]]:
        """Return the newest requests as JSON, in the order of their first answers."""
        newest = list(islice(reversed(self.by_request.items()), _MAX_SHOWN))
        return [{"sha256": sha256, **asdict(paid)} for sha256, paid in reversed(newest)]
