"""The calls of a manifest: their requests, their expected cost, and the ones still to be made."""

from gemini_batch.plan.canonical import CANONICAL_TAG, canonical, request_sha256
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
    "request_sha256",
]
