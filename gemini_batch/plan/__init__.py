"""The calls of a manifest: their requests, their expected cost, and the ones still to be made."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.plan.canonical import request_sha256
    from gemini_batch.plan.planner import JobError, Planner
    from gemini_batch.plan.sums import CallTotals, DownscaleTotals
    from gemini_batch.plan.totals import CallState, Plan

# Imported on first use: a command needs few of them.
_MODULE_OF = {
    "request_sha256": "canonical",
    "JobError": "planner",
    "Planner": "planner",
    "CallTotals": "sums",
    "DownscaleTotals": "sums",
    "CallState": "totals",
    "Plan": "totals",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value
