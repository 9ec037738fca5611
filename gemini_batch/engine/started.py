"""The first event of a run, from its plan. Pure."""

from gemini_batch.config import Settings
from gemini_batch.events import RunStarted
from gemini_batch.plan import CallState
from gemini_batch.plan.build import loads
from gemini_batch.plan.built import BuiltPlan


def started_run(planned: BuiltPlan, config: Settings, out: str) -> RunStarted:
    """Return what a run is about to do; `out` is named as the user gave it."""
    plan, time = planned.plan, planned.duration
    return RunStarted(
        todo=plan.to_send,
        done=plan.count(CallState.DONE),
        reused=plan.count(CallState.REUSED),
        edited=plan.count(CallState.EDITED),
        later=plan.count(CallState.LATER),
        max_cost_usd=config.max_cost_usd,
        cost_usd=plan.total.cost_usd,
        duration_s=time.sending_s,
        days=time.days,
        bound_by=time.bound_by,
        out=out,
        tier=config.tier,
        is_simulated=config.base_url is None,
        loads=loads(plan),
        notices=planned.notices(),
        waiting=plan.count(CallState.WAITING),
        route=config.route,
        held=planned.held(),
        stale=planned.stale,
        depth=planned.depth,
        waiting_usd=planned.history.waiting.committed_usd,
        submitted_at_first=planned.submitted_at_first,
    )
