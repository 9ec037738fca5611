"""The rows of the live view as styled text. Colours mark results and what needs attention."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.text import Text

from gemini_batch.events import Stopping
from gemini_batch.progress.formatting import clock, count, plain, quantity, whole_span
from gemini_batch.progress.messages import eta, finishing
from gemini_batch.progress.run_state import RunSnapshot
from gemini_batch.quota.limits import Limit
from gemini_batch.quota.results import UNKNOWN, Used
from gemini_batch.records import Status, StopReason

STYLES = {
    Status.SUCCEEDED: "green",
    Status.BLOCKED: "yellow",
    Status.REJECTED: "red",
    Status.FAILED: "red",
    Status.UNCERTAIN: "yellow",
    Status.LOST: "red",
}
_GROUPS = (
    ("green", (Status.SUCCEEDED,)),
    ("yellow", (Status.BLOCKED, Status.UNCERTAIN)),
    ("red", (Status.REJECTED, Status.FAILED, Status.LOST)),
)
_ALWAYS = (Status.SUCCEEDED, Status.BLOCKED, Status.FAILED)

# Wider rows are hard to read; only errors may be longer.
_MAX_CELLS = 100
_LABEL_CELLS = 8
_GAUGE_CELLS = 16
# Below this width gauges are half as long, without the time of their reset.
_NARROW_CELLS = 78
# Shorter waits are normal pacing.
_MIN_SHOWN_WAIT_S = 1.0
_FULL, _EMPTY = "━", "─"


def rows_of(name: str, state: RunSnapshot, columns: int, lines: int) -> list[Text]:
    """Return the rows that show a run, the most important first, as many as fit the terminal."""
    cells = max(20, min(columns - 1, _MAX_CELLS))
    rows = [
        Text(),
        _title(name, state, cells),
        _bar(state, cells),
        _counts(state, cells),
        Text(),
        *_labelled("time", _flowing(_time(state), cells)),
        *_labelled("now", _now(state, cells)),
        *_labelled("pace", _flowing(_pace(state), cells)),
        *_labelled("cost", _flowing(_cost(state), cells)),
        *_labelled("quota", list(_gauges(state, cells))),
    ]
    for row in rows:
        row.truncate(cells, overflow="ellipsis")
    errors = _labelled("errors", list(_errors(state)))
    for row in errors:
        row.truncate(max(20, columns - 1), overflow="ellipsis")
    # One line above the region stays visible.
    return (rows + errors)[: max(1, lines - 1)]


def _flowing(parts: Iterable[str], cells: int, style: str = "") -> list[Text]:
    """Return rows of parts, as many in each as fit next to a label."""
    rows = [""]
    for part in parts:
        longer = f"{rows[-1]} · {part}" if rows[-1] else part
        if not rows[-1] or cell_len(longer) <= cells - _LABEL_CELLS - 1:
            rows[-1] = longer
        else:
            rows.append(part)
    return [Text(row, style) for row in rows]


def _labelled(label: str, values: Sequence[Text]) -> list[Text]:
    rows = []
    for number, value in enumerate(values):
        row = Text.assemble((f" {'' if number else label:<{_LABEL_CELLS}}", "dim"), value)
        row.no_wrap = True
        rows.append(row)
    return rows


def _title(name: str, state: RunSnapshot, cells: int) -> Text:
    elapsed = whole_span(state.elapsed_s)
    room = cells - 3 - len(elapsed)
    name = plain(name)
    while cell_len(name) > room and len(name) > 1:  # the end of a long path matters most
        name = "…" + name[2:]
    row = Text(" ")
    row.append(name, "bold")
    row.append(" " * max(1, cells - 1 - cell_len(name) - len(elapsed)))
    row.append(elapsed, "dim")
    return row


def _bar(state: RunSnapshot, cells: int) -> Text:
    ended, todo = state.todo - state.left, max(1, state.todo)
    numbers = f"{ended:>{len(f'{todo:,}')},} of {todo:,}  {ended * 100 // todo:>3} %"
    room = max(4, cells - 3 - len(numbers))
    row = Text(" ")
    for style, filled in _shares(state, room):
        row.append(_FULL * filled, style)
    row.append(_EMPTY * (room - (len(row) - 1)), "dim")
    row.append(f"  {numbers}")
    return row


def _shares(state: RunSnapshot, room: int) -> Iterator[tuple[str, int]]:
    """Yield the style and width of each group: at least a cell, and the full bar if all ended."""
    groups = [
        (style, sum(state.by_status.get(status, 0) for status in statuses))
        for style, statuses in _GROUPS
    ]
    total = max(1, state.todo)
    ended = sum(number for _, number in groups)
    filled = room if ended >= total else max(1 if ended else 0, ended * room // total)
    bad = [
        (style, min(filled, max(1, round(number * room / total))))
        for style, number in groups[1:]
        if number
    ]
    good = max(1 if groups[0][1] else 0, filled - sum(share for _, share in bad))
    left = room
    for style, share in [(groups[0][0], good), *bad]:
        share = min(share, left)  # noqa: PLW2901 # a narrow bar
        left -= share
        yield style, share


def _counts(state: RunSnapshot, cells: int) -> Text:
    """Return the calls by status, in columns, so that nothing moves when a number gets longer."""
    parts = [
        (number, status.value, STYLES[status])
        for status in Status
        if (number := state.by_status.get(status, 0)) or status in _ALWAYS
    ]
    parts.append((state.left, "left", ""))
    for wide, gap in ((len(f"{state.todo:,}"), "   "), (0, "  "), (0, " ")):
        row = Text(" ")
        for number, label, style in parts:
            text = f"{number:,} {label}"
            row.append(text, style if number else "dim")
            row.append(" " * max(0, wide + 1 + len(label) - len(text)) + gap)
        row.rstrip()
        if row.cell_len <= cells:
            break
    return row


def _time(state: RunSnapshot) -> list[str]:
    if state.is_stopping:
        return [f"{count(max(0, state.left - state.in_flight), 'call')} left for another run"]
    return eta(state.forecast, state.left, state.now).split(" · ")


def _now(state: RunSnapshot, cells: int) -> list[Text]:
    """Return what the run waits for, and why."""
    if state.stopping is not None:
        return _flowing([_ending(state.stopping, state.in_flight)], cells, "yellow")
    if (waiting := state.waiting) and waiting.wait_s >= _MIN_SHOWN_WAIT_S:
        parts = [f"waiting {whole_span(waiting.wait_s)}: {plain(waiting.why)}"]
        if state.models > 1:
            parts.append(plain(waiting.model))
        return _flowing(parts, cells)
    if not state.in_flight:
        return [Text("starting to send" if state.left else "all calls have ended")]
    return [Text(f"waiting for {count(state.in_flight, 'answer')}")]


def _ending(stopping: Stopping, in_flight: int) -> str:
    if stopping.model:
        return plain(f"{stopping.stop.message}; other models continue")
    if not in_flight:
        return "stopping: writing the last answers"
    return finishing(in_flight, by_key=stopping.stop.reason is StopReason.INTERRUPTED)


def _pace(state: RunSnapshot) -> Iterator[str]:
    per_min = state.images_per_min
    digits = 0 if per_min >= 9.5 or not per_min else 1
    yield f"{per_min:,.{digits}f} images a minute"
    yield f"{state.in_flight:,} in flight"
    if state.to_retry:
        yield f"{state.to_retry:,} to retry"


def _cost(state: RunSnapshot) -> Iterator[str]:
    unpriced = f" and {state.unpriced:,} of unknown cost" if state.unpriced else ""
    so_far = f"{_dollars(state.cost_usd)}{unpriced} so far"
    if state.is_stopping:
        yield f"{so_far}, at list price"
        return
    yield so_far
    if state.projected_usd is None:
        yield "cost unknown"
    else:
        yield f"about {_dollars(state.projected_usd)} at the end, at list price"


def _dollars(amount: float) -> str:
    """Return an amount in cents, so that the text behind it does not move."""
    return f"${amount:,.2f}"


def _gauges(state: RunSnapshot, cells: int) -> Iterator[Text]:
    is_narrow = cells < _NARROW_CELLS
    for model, limits in state.used.items():
        shown = [used for used in limits if used.bound.limit is not None]
        if len(state.used) > 1 and shown:
            yield Text(plain(model), "dim")
        wide = max((len(_label(used.bound)) for used in shown), default=0)
        limits_shown = (quantity(used.bound, used.bound.limit or 0) for used in shown)
        numbers = max(map(len, limits_shown), default=0)
        for used in shown:
            row = _gauge(used, wide, numbers, _GAUGE_CELLS // (2 if is_narrow else 1))
            if used.bound.span == "a day" and not is_narrow:
                resets_at = state.now + timedelta(seconds=used.frees_in_s)
                row.append(f" · resets {clock(resets_at, state.now)}", "dim")
            yield row


def _gauge(used: Used, wide: int, numbers: int, cells: int) -> Text:
    limit = max(1, used.bound.limit or 0)
    is_known = used.used < UNKNOWN
    filled = min(cells, -(-used.used * cells // limit)) if is_known else cells
    is_over = used.bound.span == "a day" and used.used >= limit  # a full minute is the goal
    row = Text(f"{_label(used.bound):<{wide}}  ")
    row.append(_FULL * filled, "yellow" if is_over else "")
    row.append(_EMPTY * (cells - filled), "dim")
    row.append(f"  {quantity(used.bound, used.used) if is_known else 'unknown':>{numbers}}")
    row.append(f" of {quantity(used.bound, limit):>{numbers}}")
    return row


def _label(bound: Limit) -> str:
    return f"{bound.unit}s {bound.span}"


def _errors(state: RunSnapshot) -> Iterator[Text]:
    for error in reversed(state.errors):
        seen = state.now - timedelta(seconds=state.now_s - error.seen_s)
        repeated = f" and {error.number - 1:,} before it" if error.number > 1 else ""
        yield Text.assemble(
            (f"{seen.astimezone():%H:%M:%S}  ", "dim"),
            plain(error.message),
            (f"  {plain(error.call_id)}{repeated}", "dim"),
        )
