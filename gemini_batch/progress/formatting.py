"""How numbers, moments and strangers' texts are put for a person. Pure."""

import re
import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gemini_batch.quota.limits import Limit

_JOINERS = "\u200c\u200d"  # they hold the parts of an emoji together, and hide nothing
_LINE_ENDS = re.compile("[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]+")


def plain(text: str) -> str:
    r"""Return a text as one line that a terminal only shows: what it would obey, or hide, is spelled out (`\x1b`).

    Ids, prompts, paths and what a server says come from strangers: an escape sequence could move the cursor, forge a line, or type
    into a shell; a bidirectional override could make a path read as another one.
    """
    if text.isprintable():
        return text
    return "".join(map(_shown, _LINE_ENDS.sub(" ", text)))


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS or unicodedata.category(character) == "Zs":
        return character
    return repr(character)[1:-1]


def count(number: int, thing: str) -> str:
    """Return `1 call`, `1,200 calls`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def span(seconds: float) -> str:
    """Return a time as a person says it: `23 s`, `6 min 40 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return whole_span(seconds)


def whole_span(seconds: float) -> str:
    """Return a time in whole units, for one that counts while a person looks on: `9 s`, `6 min 40 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """Return an estimate, no finer than it is worth, so that it stands still for a while: `5 s`, `40 s`, `4 min`, `2 h 10 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds / 5)) * 5} s"
    if seconds < 600:
        half_minutes = round(seconds / 30)
        return f"{half_minutes // 2} min" + (" 30 s" if half_minutes % 2 else "")
    minutes = round(seconds / 60) if seconds < 3600 else round(seconds / 300) * 5
    return (
        f"{minutes} min"
        if minutes < 60
        else f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    )


def usd(amount: float | None) -> str:
    """Return `$13.40`, `$0.1344` below a dollar, or `cost unknown`."""
    if amount is None:
        return "cost unknown"
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def quantity(bound: "Limit", number: int) -> str:
    """Return a number of what a limit counts, dollars in cents, without the word for it: `$13.40`, `1,500`."""
    return f"${number / 1e6:,.2f}" if bound.of == "usd_micros" else f"{number:,}"


def list_price(amount: float | None, tier: str, *, is_simulated: bool) -> str:
    """Return what a run costs, and when that is not paid."""
    if amount is None:
        return usd(amount)
    free = " ($0 if the project has no billing)" if tier == "free" else ""
    return f"{usd(amount)} at list price{' (simulated: nothing is paid)' if is_simulated else free}"


def least_time(duration_s: float, days: int, bound_by: str) -> str:
    """Return how long the quota takes at the least, and which limit is the reason."""
    if duration_s < 0.05 and days <= 1:
        return "no wait for the quota"
    words = f"at least {span(duration_s)} of sending" + (f" over {days} days" if days > 1 else "")
    return f"{words}, by {bound_by}" if bound_by else words


def at(moment: datetime) -> str:
    """Return a moment in UTC, and in local time where that is another."""
    local = moment.astimezone()
    words = f"{moment:%Y-%m-%d %H:%M} UTC"
    return f"{words} ({local:%Y-%m-%d %H:%M} {local:%Z})" if local.utcoffset() else words


def clock(moment: datetime, now: datetime) -> str:
    """Return a moment by the person's clock: `09:41`, with the day of the week when it is not today's."""
    local = moment.astimezone()
    return f"{local:%H:%M}" if local.date() == now.astimezone().date() else f"{local:%a %H:%M}"
