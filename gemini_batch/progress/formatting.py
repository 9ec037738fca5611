"""Formatting of numbers, times and untrusted text. Pure."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from gemini_batch.wording import usd

if TYPE_CHECKING:
    from gemini_batch.quota.limits import Limit

# "Not available" in the free column of https://ai.google.dev/gemini-api/docs/pricing for every
# image model, read 2026-10-08.
NO_FREE_IMAGES = "image models have no free quota: the project needs billing"
# https://ai.google.dev/gemini-api/docs/batch-api (2026-11-30).
BATCH_TARGET_S = 24 * 3600
BATCH_TIME = "within 24 hours by Google's target, mostly less"
STALE = "made with pictures that have been replaced since (--redo stale)"
_HELD_TEXTS = {"waiting": "in batches", "later": "outside of this part"}
_JOINERS = "\u200c\u200d"  # they join the parts of an emoji, and hide nothing
_LINE_ENDS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def plain(text: str) -> str:
    r"""Return a text as one line, with control and invisible characters escaped (`\x1b`).

    Ids, prompts, paths and messages of a server are untrusted: an escape sequence could move the
    cursor, forge a line, or type into a shell; a bidirectional override could disguise a path.
    """
    if text.isprintable():
        return text
    return "".join(map(_escaped, _LINE_ENDS.sub(" ", text)))


def _escaped(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return repr(character)[1:-1]


def count(number: int, noun: str) -> str:
    """Return `1 call`, `1,200 calls`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a duration, below 10 s with a decimal: `2.3 s`, `6 min 40 s`, `2 h 5 min`."""
    return f"{seconds:.1f} s" if seconds < 10 else whole_span(seconds)


def whole_span(seconds: float) -> str:
    """Return a duration in whole units, for a running display: `9 s`, `6 min 40 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """Return a rounded duration that changes rarely: `5 s`, `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds / 5)) * 5} s"
    if seconds < 600:
        half_minutes = round(seconds / 30)
        return f"{half_minutes // 2} min" + (" 30 s" if half_minutes % 2 else "")
    minutes = round(seconds / 60) if seconds < 3600 else round(seconds / 300) * 5
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def quantity(limit: "Limit", number: int) -> str:
    """Return an amount of what a limit counts, without its unit: `$13.40`, `1,500`."""
    return usd(number / 1e6) if limit.of == "usd_micros" else f"{number:,}"


def tier_label(tier: str) -> str:
    """Return `tier free`, and `tier-2` as it is."""
    return tier if tier.startswith("tier") else f"tier {tier}"


def list_price(amount: float | None, tier: str, route: str, *, is_simulated: bool) -> str:
    """Return the cost of a run, with a note when it is not billed."""
    if amount is None:
        return usd(amount)
    free = f" ({NO_FREE_IMAGES})" if tier == "free" and amount else ""
    note = " (simulated: nothing is paid)" if is_simulated else free
    return f"{usd(amount)} at list price{' of batches' if route == 'batch' else ''}{note}"


def least_time(duration_s: float, days: int, bound_by: str) -> str:
    """Return the shortest time that the quota allows, and the limit that decides it."""
    if duration_s < 0.05 and days <= 1:
        return "no wait for the quota"
    text = f"at least {whole_span(max(1, duration_s)).removesuffix(' 0 s')}"
    text += f" over {days} days" if days > 1 else ""
    return f"{text}, limited by {bound_by}" if bound_by else text


def clock(moment: datetime, now: datetime) -> str:
    """Return a local time: `09:41`, with the day of the week unless it is today."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%a %H:%M}"


def budget(
    max_cost_usd: float, cost_usd: float | None, calls: int, at_first: int | None = None
) -> str:
    """Return the budget, and for about how many calls it is enough: `for about 14 of 28 calls`.

    `at_first` is the number of those that the first run submits in batches; None without any.
    """
    text = usd(max_cost_usd)
    if not cost_usd:
        return text
    affordable = affordable_calls(max_cost_usd, cost_usd, calls)
    if affordable < calls:
        text = f"{text}: enough for about {affordable:,} of {count(calls, 'call')}"
    else:
        text = f"{text}: enough for {'the call' if calls == 1 else f'all {calls:,} calls'}"
    if at_first is None or at_first >= affordable:
        return text
    return (
        f"{text}, of which a first run submits about {at_first:,}, because each may cost more; "
        "later runs, or --wait, submit the rest"
    )


def affordable_calls(max_cost_usd: float, cost_usd: float, calls: int) -> int:
    """Return how many of some calls a budget pays for, if all cost the same."""
    return min(calls, int(max_cost_usd / cost_usd * calls + 1e-9))


def edited(number: int) -> str:
    """Return how many calls have an answer to another request, or from another endpoint."""
    return f"{number:,} edited since done, or done at another endpoint: will be paid for again"


def held(by_reason: Mapping[str, int]) -> str:
    """Return `12 held for pictures of other calls (10 blocked, 2 in batches)`."""
    return f"{sum(by_reason.values()):,} held {held_for(by_reason)}"


def held_for(by_reason: Mapping[str, int]) -> str:
    """Return `for pictures of other calls (10 blocked, 2 in batches)`."""
    whys = ((_HELD_TEXTS.get(reason, reason), number) for reason, number in by_reason.items())
    return f"for pictures of other calls ({', '.join(f'{number:,} {why}' for why, number in whys)})"


def stale(number: int) -> str:
    """Return how many calls are stale, and what sends them again."""
    return f"{number:,} stale, {STALE}"
