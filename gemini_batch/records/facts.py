"""`Facts`: what the row of a call says about the call itself."""

from dataclasses import dataclass
from typing import Any

from gemini_batch.records.call import Estimate
from gemini_batch.records.row import InputRef
from gemini_batch.records.service_tier import ServiceTier, lane_name


@dataclass(frozen=True, slots=True)
class Facts:
    """A call without its request, as its row needs it.

    The answer of a batch may come when the manifest is gone, or says something else: these are kept
    on the disk meanwhile.

    Attributes:
        id: As the others up to `image_size`, of the `Call`.
        inputs: The reference images, and the copies that were sent of them.
        model: The model that was called.
        service_tier: The tier that was asked for.
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
    service_tier: ServiceTier = "standard"

    @property
    def lane(self) -> str:
        """The name of its lane: its model and service tier."""
        return lane_name(self.model, self.service_tier)
