"""Unusual facts about the requests of a plan, for the warnings before a run."""

from gemini_batch.catalog import models
from gemini_batch.plan.sums import MAX_UNKNOWN_FIELDS, DownscaleTotals, UnknownField
from gemini_batch.records import InputImage, Request, Text


class Unusual:
    """Unknown fields, many reference images, and downscaled ones.

    Attributes:
        downscaled: The images that are downscaled.
        unknown_fields: By name.
        many_references: Model → the first line, and the number of jobs, with more images than it
            usually takes.
    """

    def __init__(self) -> None:
        self.downscaled = DownscaleTotals()
        self.unknown_fields: dict[str, UnknownField] = {}
        self.many_references: dict[str, tuple[int, int]] = {}

    def note(self, request: Request, line: int, calls: int) -> None:
        """Note the request of a line, which is sent as `calls` calls."""
        self._count_unknown(request, line)
        self._count_references(request, line)
        self._count_downscaled(request, calls)

    def _count_unknown(self, request: Request, line: int) -> None:
        for name in request.raw.unknown if request.raw else ():
            if name in self.unknown_fields or len(self.unknown_fields) < MAX_UNKNOWN_FIELDS:
                self.unknown_fields.setdefault(name, UnknownField(0, line)).jobs += 1

    def _count_downscaled(self, request: Request, calls: int) -> None:
        total = self.downscaled
        for image in request.parts:
            if isinstance(image, InputImage) and image.max_pixels:
                total.images += calls
                total.size_bytes += calls * image.size_bytes
                total.upload_bytes += calls * image.upload_bytes

    def _count_references(self, request: Request, line: int) -> None:
        """Note a request with more reference images than its model usually takes."""
        known = models.find(request.model)
        images = (
            request.raw.images
            if request.raw
            else sum(not isinstance(part, Text) for part in request.parts)
        )
        if known and images > known.usual_references:
            first, jobs = self.many_references.get(request.model, (line, 0))
            self.many_references[request.model] = first, jobs + 1
