"""`Facts`: what the row of a call says about the call itself."""

from dataclasses import dataclass
from typing import Any

from gemini_batch.records.call import Estimate
from gemini_batch.records.row import InputRef


@dataclass(frozen=True, slots=True)
class Facts:
    """A call without its request, as its row needs it.

    The answer of a batch may come when the manifest is gone, or says something else: these are kept
    on the disk meanwhile.

    Attributes:
        id: As the others up to `image_size`, of the `Call`.
        inputs: The reference images, and the copies that were sent of them.
        model: The model that was called.
        thinking: The level that was asked for; None for the model's own.
    """

    id: str
    line: int
    request_sha256: str
    prompt: str | None
    image_size: str
    metadata: dict[str, Any] | None
    estimate: Estimate
    inputs: list[InputRef]
    model: str
    thinking: str | None = None
