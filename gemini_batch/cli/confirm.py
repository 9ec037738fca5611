"""The questions before a run; asked only on an interactive terminal."""

import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from gemini_batch.config import Settings
from gemini_batch.plan.again import STALE
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.progress.formatting import count, least_time, plain, tier_label
from gemini_batch.wording import usd


def is_agreed(options: Namespace, config: Settings, planned: BuiltPlan, out: Path | str) -> bool:
    """Return whether a run may start; ask if it is expensive and `--yes` was not given."""
    plan, time = planned.plan, planned.duration
    cost_usd = plan.total.cost_usd
    if config.max_cost_usd is not None and cost_usd is not None:
        cost_usd = min(cost_usd, config.max_cost_usd)
    is_expensive = plan.to_send > 0 and (cost_usd is None or cost_usd > options.confirm_above)
    is_simulated = config.base_url is None
    if options.yes or is_simulated or not is_expensive or not _is_interactive():
        return True
    cost = usd(cost_usd) if cost_usd is None else f"up to about {usd(cost_usd)} at list price"
    lasts = least_time(time.sending_s, time.days, time.bound_by)
    how = "in batches" if config.route == "batch" else lasts
    sys.stderr.write(plain(f"{tier_label(config.tier)}: {how} · output in {out}") + "\n")
    asked = f"{count(plan.to_send, 'call')} to send, {cost}. Continue? [y/N] "
    return _answer(asked) in {"y", "yes"}


def with_stale(options: Namespace, config: Settings, stale: int) -> Settings | None:
    """Ask whether to send stale calls again; return the settings that say so, or None for no."""
    is_asked = stale and STALE not in config.redo and config.base_url is not None
    if options.yes or not is_asked or not _is_interactive():
        return None
    calls = "1 call is" if stale == 1 else f"{stale:,} calls are"
    asked = (
        f"{calls} stale: made with pictures that have been replaced since. Send again too? [y/N] "
    )
    if _answer(asked) not in {"y", "yes"}:
        return None
    return replace(config, redo=(*config.redo, STALE))


def with_decision(config: Settings, problem: str) -> Settings | None:
    """Ask what to do where rows are gone; return the settings that say so, or None to end."""
    if not _is_interactive():
        return None
    sys.stderr.write(f"{problem}\n")
    match _answer("Adopt the images, forget the rows, or end? [adopt/forget/N] "):
        case "adopt":
            return replace(config, adopts_images=True)
        case "forget":
            return replace(config, forgets_rows=True)
    return None


def is_confirmed(question: str) -> bool | None:
    """Ask on a terminal; return None where there is none."""
    if not _is_interactive():
        return None
    return _answer(f"{question} [y/N] ") in {"y", "yes"}


def _answer(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-D or Ctrl-C: the next message gets its own line
            sys.stderr.write("\n")
    return answer.strip().lower()


def _is_interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
