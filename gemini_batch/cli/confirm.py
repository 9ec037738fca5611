"""Asks before much money is spent, where a person is there to answer: never in a cron job."""

import sys
from argparse import Namespace

from gemini_batch.config import Settings
from gemini_batch.plan import Plan
from gemini_batch.progress import count, usd


def is_agreed(options: Namespace, config: Settings, plan: Plan) -> bool:
    """Return whether a run may begin: at once unless it is dear and nobody has agreed to it by `--yes`.

    Args:
        options: `yes` and `confirm_above`.
        config: The run's settings.
        plan: What is to be sent.
    """
    cost_usd = plan.total.cost_usd
    if config.max_cost_usd is not None and cost_usd is not None:
        cost_usd = min(cost_usd, config.max_cost_usd)
    is_dear = plan.to_send > 0 and (cost_usd is None or cost_usd > options.confirm_above)
    if options.yes or config.base_url is None or not is_dear or not _is_somebody_there():
        return True
    sys.stderr.write(f"{_words(plan, cost_usd)}. Go on? [y/N] ")
    sys.stderr.flush()
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-D or Ctrl-C: what is said next has a line of its own
            sys.stderr.write("\n")
    return answer.strip().lower() in {"y", "yes"}


def _words(plan: Plan, cost_usd: float | None) -> str:
    how_much = "cost unknown" if cost_usd is None else f"up to about {usd(cost_usd)} at list price"
    return f"{count(plan.to_send, 'call')} to send, {how_much}"


def _is_somebody_there() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
