"""From a job to its calls: what exactly is asked, what it is expected to cost, and whether it is still to be done."""

from gemini_batch.plan.canonical import (
    CANONICAL_TAG,
    canonical,
    image_size,
    input_tokens,
    prompt_text,
    request_sha256,
)
from gemini_batch.plan.planner import JobError, Planner, Resolve
from gemini_batch.plan.totals import CallState, CallTotals, DownscaleTotals, Plan, StateOf

__all__ = [
    "CANONICAL_TAG",
    "CallState",
    "CallTotals",
    "DownscaleTotals",
    "JobError",
    "Plan",
    "Planner",
    "Resolve",
    "StateOf",
    "canonical",
    "image_size",
    "input_tokens",
    "prompt_text",
    "request_sha256",
]
