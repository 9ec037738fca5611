"""The row of a call, from what is known of the call, its last attempt, and its answer. Pure."""

from dataclasses import dataclass

from gemini_batch.catalog import prices
from gemini_batch.client.response import EMPTY
from gemini_batch.plan.canonical import thinking
from gemini_batch.records import (
    ApiError,
    BatchRef,
    Call,
    Facts,
    Failure,
    ImageFile,
    InputImage,
    InputRef,
    InputUri,
    JobPicture,
    Reply,
    ResultRow,
    ReusedFrom,
    RowError,
    SentFile,
    Status,
    Timing,
)
from gemini_batch.records.references import PREFIX

# Pictures of all shapes of a size have about as many pixels; half the width has a quarter of them.
_PIXELS = {"512": 512**2, "1K": 1024**2, "2K": 2048**2, "4K": 4096**2}
_SMALLER = 0.6
NO_REPLY = Reply(None, (), None, None, None, None, [], None, None, None)


@dataclass(frozen=True, slots=True)
class Attempted:
    """A call, how often it was sent in this run, and the times of the last attempt.

    Attributes:
        batch: The batch that it was sent in; None for a request of its own.
    """

    call: Facts
    attempts: int
    timing: Timing
    batch: BatchRef | None = None


def facts_of(call: Call) -> Facts:
    """Return what a row says about a call."""
    return Facts(
        id=call.id,
        line=call.line,
        request_sha256=call.request_sha256,
        prompt=call.prompt,
        image_size=call.image_size,
        metadata=call.metadata,
        estimate=call.estimate,
        inputs=_inputs(call),
        model=call.request.model,
        thinking=thinking(call.request),
        service_tier=call.request.service_tier,
    )


def make_row(
    attempted: Attempted,
    status: Status,
    reply: Reply,
    endpoint: str,
    *,
    images: list[ImageFile] | None = None,
    drafts: list[ImageFile] | None = None,
    cost_usd: float | None = 0.0,
    error: ApiError | Failure | None = None,
    reused_from: ReusedFrom | None = None,
) -> ResultRow:
    """Return a row; without images of its own it has none."""
    call, timing = attempted.call, attempted.timing
    return ResultRow(
        id=call.id,
        line=call.line,
        status=status,
        images=images or [],
        drafts=drafts or [],
        text=reply.text,
        prompt=call.prompt,
        inputs=call.inputs,
        finish_reason=reply.finish_reason,
        finish_message=reply.finish_message,
        block_reason=reply.block_reason,
        safety_ratings=reply.safety_ratings,
        usage=reply.usage,
        cost_usd=cost_usd,
        model=call.model,
        model_version=reply.model_version,
        response_id=reply.response_id,
        endpoint=endpoint,
        request_sha256=call.request_sha256,
        attempts=attempted.attempts,
        latency_s=round(timing.latency_s, 3),
        sent_at=timing.sent_at,
        finished_at=timing.finished_at,
        error=row_error(error) if error else None,
        metadata=call.metadata,
        reused_from=reused_from,
        remote_images=[image.uri for image in reply.remote],
        thinking=call.thinking,
        service_tier=reply.service_tier,
        route="batch" if attempted.batch else "interactive",
        batch=attempted.batch,
        is_cut=reply.is_cut,
        is_smaller=status is Status.SUCCEEDED and is_smaller(attempted, images or []),
    )


def is_smaller(attempted: Attempted, images: list[ImageFile]) -> bool:
    """Return whether a picture of a batch is much smaller than was asked for, as some are.

    Reports of batches with lower resolution: python-genai#2175 (collected 2026-11-30).
    """
    asked = _PIXELS.get(attempted.call.image_size)
    if attempted.batch is None or asked is None:
        return False
    return any(0 < (each.width or 0) * (each.height or 0) < asked * _SMALLER for each in images)


def cost_usd(attempted: Attempted, reply: Reply, price_table: prices.PriceTable) -> float | None:
    """Return the cost of an answer at list price, by the route that it came; None if unknown."""
    call = attempted.call
    if attempted.batch:
        # A model without a price of its own in a batch may cost as much as otherwise.
        times = prices.factor(call.model, "batch", price_table) or 1.0
    else:
        asked, served = call.service_tier, reply.service_tier
        times = prices.booked_factor(call.model, asked, served, price_table)
    usd = prices.cost_usd(
        call.model,
        reply.usage,
        len(reply.drafts) + (reply.image is not None) + len(reply.remote),
        call.image_size,
        blocked=reply.block_reason != EMPTY,
        has_text=reply.text is not None,
        input_tokens=call.estimate.input_tokens,
        searches=reply.searches,
        times=times,
        prices=price_table,
    )
    return None if usd is None else round(usd, 6)


def row_error(error: ApiError | Failure) -> RowError:
    """Return the row's entry for an error."""
    if isinstance(error, ApiError):
        return RowError(error.http_status, error.status, error.reason, error.message)
    return RowError(None, error.kind.value, None, error.message)


def _inputs(call: Call) -> list[InputRef]:
    refs: list[InputRef] = []
    for part in call.request.parts:
        if isinstance(part, InputImage):
            sent = None
            if (copy := part.downscaled) is not None:
                sent = SentFile(
                    copy.mime_type, copy.size_bytes, copy.width, copy.height, copy.sha256
                )
            refs.append(InputRef(part.path, part.sha256 or None, sent))
        elif isinstance(part, InputUri):
            refs.append(InputRef(part.uri, None))
        elif isinstance(part, JobPicture):
            refs.append(InputRef(PREFIX + part.call_id, None))
    return refs
