"""From a job to its calls: what exactly is asked, what it is expected to cost, and whether it is still to be done."""

from gemini_batch.plan.jobs import JobError, Planner, Resolve
from gemini_batch.plan.requests import CANONICAL_TAG, canonical, image_size, input_tokens, prompt_text, request_sha256
from gemini_batch.plan.tally import Judge, Plan, Shrinking, Tally, Verdict

__all__ = [
    "CANONICAL_TAG",
    "JobError",
    "Judge",
    "Plan",
    "Planner",
    "Resolve",
    "Shrinking",
    "Tally",
    "Verdict",
    "canonical",
    "image_size",
    "input_tokens",
    "prompt_text",
    "request_sha256",
]
