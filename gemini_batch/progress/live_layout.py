"""What the live view shows of a run, as lines of styled text. Colour carries meaning only: done, blocked, failed, and what needs a look."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.text import Text

from gemini_batch.events import Stopping
from gemini_batch.progress.formatting import clock, count, plain, quantity, whole_span
from gemini_batch.progress.messages import eta, finishing
from gemini_batch.progress.run_state import State
from gemini_batch.quota.limits import Limit
from gemini_batch.quota.model_quota import UNKNOWN, Used
from gemini_batch.records import Status, StopReason

STYLES = {
    Status.SUCCEEDED: "green",
    Status.BLOCKED: "yellow",
    Status.REJECTED: "red",
    Status.FAILED: "red",
    Status.UNCERTAIN: "yellow",
    Status.LOST: "red",
}
_ALWAYS = (Status.SUCCEEDED, Status.BLOCKED, Status.FAILED)

# Wider than this, eyes lose the line; what a stranger says may be longer.
_MOST_CELLS = 100
_LABEL_CELLS = 8
_GAUGE_CELLS = 16
# Below so many, gauges are half as long and do not say when they reset.
_NARROW_CELLS = 78
# Shorter waits are the pace of every run.
_WORTH_SHOWING_S = 1.0
_FULL, _EMPTY = "━", "─"


def picture(name: str, state: State, columns: int, lines: int) -> list[Text]:
    """Return the rows that show a run; the first ones matter the most, and no more are given than fit.

    Args:
        name: Of the manifest.
        state: The run.
        columns: Of the terminal.
        lines: Of the terminal.
    """
    cells = max(20, min(columns - 1, _MOST_CELLS))
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
    troubles = _labelled("errors", list(_troubles(state)))
    for row in troubles:
        row.truncate(max(20, columns - 1), overflow="ellipsis")
    rows += troubles
    # The line that it stands below stays in sight.
    return rows[: max(1, lines - 1)]


def _flowing(parts: Iterable[str], cells: int, style: str = "") -> list[Text]:
    """Return rows of parts, as many in each as fit beside a label."""
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
        row = Text(no_wrap=True)
        row.append(f" {'' if number else label:<{_LABEL_CELLS}}", "dim")
        row.append_text(value)
        rows.append(row)
    return rows


def _title(name: str, state: State, cells: int) -> Text:
    elapsed = whole_span(state.elapsed_s)
    room = cells - 3 - len(elapsed)
    name = plain(name)
    while cell_len(name) > room and len(name) > 1:  # of a long path the end says the most
        name = "…" + name[2:]
    row = Text(" ")
    row.append(name, "bold")
    row.append(" " * max(1, cells - 1 - cell_len(name) - len(elapsed)))
    row.append(elapsed, "dim")
    return row


def _bar(state: State, cells: int) -> Text:
    ended, todo = state.todo - state.left, max(1, state.todo)
    numbers = f"{ended:>{len(f'{todo:,}')},} of {todo:,}  {ended * 100 // todo:>3} %"
    room = max(4, cells - 3 - len(numbers))
    row = Text(" ")
    for style, filled in _shares(state, room):
        row.append(_FULL * filled, style)
    row.append(_EMPTY * (room - (len(row) - 1)), "dim")
    row.append(f"  {numbers}")
    return row


def _shares(state: State, room: int) -> Iterator[tuple[str, int]]:
    """Yield the style and the cells of each kind of end; what there is any of has a cell, and all ended fills the bar."""
    groups = [
        ("green", state.by_status.get(Status.SUCCEEDED, 0)),
        (
            "yellow",
            state.by_status.get(Status.BLOCKED, 0) + state.by_status.get(Status.UNCERTAIN, 0),
        ),
        (
            "red",
            sum(
                state.by_status.get(each, 0)
                for each in (Status.REJECTED, Status.FAILED, Status.LOST)
            ),
        ),
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


def _counts(state: State, cells: int) -> Text:
    """Return how many ended how; the words stand in columns, so that nothing moves when a number gets longer."""
    parts = [
        (number, status.value, STYLES[status])
        for status in Status
        if (number := state.by_status.get(status, 0)) or status in _ALWAYS
    ]
    parts.append((state.left, "left", ""))
    for wide, gap in ((len(f"{state.todo:,}"), "   "), (0, "  "), (0, " ")):
        row = Text(" ")
        for number, word, style in parts:
            words = f"{number:,} {word}"
            row.append(words, style if number else "dim")
            row.append(" " * max(0, wide + 1 + len(word) - len(words)) + gap)
        row.rstrip()
        if row.cell_len <= cells:
            break
    return row


def _time(state: State) -> list[str]:
    if state.is_stopping:
        return [f"{count(max(0, state.left - state.in_flight), 'call')} left for another run"]
    return eta(state.forecast, state.left, state.now).split(" · ")


def _now(state: State, cells: int) -> list[Text]:
    """Return what is being waited for, and why."""
    if state.stopping is not None:
        return _flowing([_ending(state.stopping, state.in_flight)], cells, "yellow")
    if (waiting := state.waiting) and waiting.wait_s >= _WORTH_SHOWING_S:
        parts = [f"waiting {whole_span(waiting.wait_s)}: {plain(waiting.why)}"]
        if state.models > 1:
            parts.append(plain(waiting.model))
        return _flowing(parts, cells)
    if not state.in_flight:
        return [Text("all have ended" if not state.left else "about to send")]
    return [Text(f"waiting for {count(state.in_flight, 'answer')}")]


def _ending(stopping: Stopping, in_flight: int) -> str:
    if stopping.model:
        return plain(f"{stopping.stop.message}; other models go on")
    if not in_flight:
        return "stopping: writing what has arrived"
    return finishing(in_flight, by_key=stopping.stop.reason is StopReason.INTERRUPTED)


def _pace(state: State) -> Iterator[str]:
    per_min = state.images_per_min
    yield (
        f"{per_min:,.0f} images a minute"
        if per_min >= 9.5 or not per_min
        else f"{per_min:.1f} images a minute"
    )
    yield f"{state.in_flight:,} in flight"
    if state.again:
        yield f"{state.again:,} to be sent again"


def _cost(state: State) -> Iterator[str]:
    unpriced = f" and {state.unpriced:,} of unknown cost" if state.unpriced else ""
    so_far = f"{_dollars(state.cost_usd)}{unpriced} so far"
    if state.is_stopping:
        yield f"{so_far}, at list price"
        return
    yield so_far
    known = state.projected_usd is not None
    yield (
        f"about {_dollars(state.projected_usd or 0.0)} at the end, at list price"
        if known
        else "cost unknown"
    )


def _dollars(amount: float) -> str:
    """Return an amount in cents: digits that come and go would move what stands behind them."""
    return f"${amount:,.2f}"


def _gauges(state: State, cells: int) -> Iterator[Text]:
    for model, limits in state.used.items():
        shown = [used for used in limits if used.bound.limit is not None]
        if len(state.used) > 1 and shown:
            yield Text(plain(model), "dim")
        wide = max((len(_what(used.bound)) for used in shown), default=0)
        numbers = max(
            (len(quantity(used.bound, used.bound.limit or 0)) for used in shown), default=0
        )
        for used in shown:
            row = _gauge(
                used, wide, numbers, _GAUGE_CELLS if cells >= _NARROW_CELLS else _GAUGE_CELLS // 2
            )
            if used.bound.span == "a day" and cells >= _NARROW_CELLS:
                row.append(
                    f" · resets {clock(state.now + timedelta(seconds=used.frees_in_s), state.now)}",
                    "dim",
                )
            yield row


def _gauge(used: Used, wide: int, numbers: int, cells: int) -> Text:
    limit = max(1, used.bound.limit or 0)
    is_known = used.used < UNKNOWN
    filled = min(cells, -(-used.used * cells // limit)) if is_known else cells
    is_over = (
        used.bound.span == "a day" and used.used >= limit
    )  # a minute that is full is what the run is after
    row = Text(f"{_what(used.bound):<{wide}}  ")
    row.append(_FULL * filled, "yellow" if is_over else "")
    row.append(_EMPTY * (cells - filled), "dim")
    row.append(f"  {quantity(used.bound, used.used) if is_known else 'unknown':>{numbers}}")
    row.append(f" of {quantity(used.bound, limit):>{numbers}}")
    return row


def _what(bound: Limit) -> str:
    return f"{bound.unit}s {bound.span}"


def _troubles(state: State) -> Iterator[Text]:
    for trouble in reversed(state.troubles):
        seen = state.now - timedelta(seconds=state.now_s - trouble.seen_s)
        row = Text()
        row.append(f"{seen.astimezone():%H:%M:%S}  ", "dim")
        row.append(plain(trouble.words))
        row.append(f"  {plain(trouble.call_id)}", "dim")
        row.append(f" and {trouble.number - 1:,} before it" if trouble.number > 1 else "", "dim")
        yield row
