"""The calls of a manifest: their requests, their expected cost, and the ones still to be made."""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use

if TYPE_CHECKING:
    from gemini_batch.plan.call_state import CallState
    from gemini_batch.plan.canonical import request_sha256
    from gemini_batch.plan.planner import JobError, Planner
    from gemini_batch.plan.sums import CallTotals, DownscaleTotals
    from gemini_batch.plan.totals import Plan

__getattr__ = on_first_use(
    __name__,
    {
        "request_sha256": "canonical",
        "JobError": "planner",
        "Planner": "planner",
        "CallTotals": "sums",
        "DownscaleTotals": "sums",
        "CallState": "call_state",
        "Plan": "totals",
    },
)
