"""The calls of a manifest: their requests, their expected cost, and the ones still to be made."""

from gemini_batch.plan.canonical import request_sha256
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.sums import CallTotals, DownscaleTotals
from gemini_batch.plan.totals import CallState, Plan
