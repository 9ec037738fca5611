"""The rows of the live view as styled text. Colours mark results and what needs attention."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from rich.cells import cell_len
from rich.text import Text

from gemini_batch.progress.formatting import (
    BATCH_TIME,
    clock,
    count,
    plain,
    quantity,
    whole_span,
)
from gemini_batch.progress.messages import eta, finishing, notice
from gemini_batch.progress.run_state import RunSnapshot
from gemini_batch.quota.results import UNKNOWN, Used
from gemini_batch.records import Status
from gemini_batch.wording import usd

STYLES = {
    Status.SUCCEEDED: "green",
    Status.BLOCKED: "yellow",
    Status.REJECTED: "red",
    Status.FAILED: "red",
    Status.UNCERTAIN: "yellow",
    Status.LOST: "red",
    Status.LATE: "dim",
    Status.PRUNED: "dim",
}
_ALWAYS = (Status.SUCCEEDED, Status.BLOCKED, Status.FAILED)

# Wider rows are hard to read; only errors may be longer.
_MAX_CELLS = 100
_LABEL_CELLS = 8
_GAUGE_CELLS = 16
# Below this width gauges are half as long, without the time of their reset.
_NARROW_CELLS = 78
# Shorter waits are normal pacing.
_MIN_SHOWN_WAIT_S = 1.0
# Batches with a bar of their own.
_MAX_BATCHES = 6
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
        *_labelled("quota", _gauges(state, cells)),
        *_labelled("batches", _batches(state, cells)),
    ]
    for row in rows:
        row.truncate(cells, overflow="ellipsis")
    errors = _labelled("errors", _errors(state))
    for row in errors:
        row.truncate(max(20, columns - 1), overflow="ellipsis")
    # One line above the region stays visible.
    return (rows + errors)[: max(1, lines - 1)]


def _flowing(parts: Iterable[str], cells: int) -> list[Text]:
    """Return rows of parts, as many in each as fit next to a label."""
    rows = [""]
    for part in parts:
        longer = f"{rows[-1]} · {part}" if rows[-1] else part
        if not rows[-1] or cell_len(longer) <= cells - _LABEL_CELLS - 1:
            rows[-1] = longer
        else:
            rows.append(part)
    return list(map(Text, rows))


def _labelled(label: str, values: Iterable[Text]) -> list[Text]:
    return [
        Text.assemble((f" {'' if number else label:<{_LABEL_CELLS}}", "dim"), value)
        for number, value in enumerate(values)
    ]


def _title(name: str, state: RunSnapshot, cells: int) -> Text:
    elapsed = whole_span(state.elapsed_s)
    room = cells - 3 - len(elapsed)
    name = plain(name)
    while cell_len(name) > room and len(name) > 1:  # the end of a long path matters most
        name = "…" + name[2:]
    gap = " " * max(1, cells - 1 - cell_len(name) - len(elapsed))
    return Text.assemble(" ", (name, "bold"), gap, (elapsed, "dim"))


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
    """Yield the width of each colour: at least a cell, and the full bar if all calls ended."""
    numbers = dict.fromkeys(("green", "yellow", "red"), 0)
    for status, number in state.by_status.items():
        numbers[STYLES[status]] += number
    total, ended = max(1, state.todo), sum(numbers.values())
    filled = room if ended >= total else max(1 if ended else 0, ended * room // total)
    shares = {
        style: min(filled, max(1, round(number * room / total))) if number else 0
        for style, number in numbers.items()
    }
    shares["green"] = max(min(1, numbers["green"]), filled - shares["yellow"] - shares["red"])
    left = room
    for style, share in shares.items():
        yield style, min(share, left)  # a narrow bar
        left -= min(share, left)


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
    if state.batches:
        return [BATCH_TIME]
    return eta(state.forecast, state.left, state.now).split(" · ")


def _now(state: RunSnapshot, cells: int) -> list[Text]:
    """Return what the run waits for, and why."""
    if stopping := state.stopping:
        if stopping.model:
            text = plain(notice(stopping))
        elif state.in_flight:
            text = finishing(replace(stopping, in_flight=state.in_flight))
        else:
            text = "stopping: writing the last answers"
        return [Text(text, "yellow")]
    if (waiting := state.waiting) and waiting.wait_s >= _MIN_SHOWN_WAIT_S:
        parts = [f"waiting {whole_span(waiting.wait_s)}: {plain(waiting.why)}"]
        if state.models > 1:
            parts.append(plain(waiting.model))
        return _flowing(parts, cells)
    if not state.in_flight and state.batches:
        return [
            Text(
                f"waiting for {count(sum(each.calls for each in state.batches), 'call')} in batches"
            )
        ]
    if not state.in_flight:
        if not state.left:
            return [Text("all calls have ended")]
        is_first = state.left == state.todo
        return [Text("starting to send" if is_first else "waiting to send the next call")]
    return [Text(f"waiting for {count(state.in_flight, 'answer')}")]


def _pace(state: RunSnapshot) -> Iterator[str]:
    per_min = state.images_per_min
    digits = 0 if per_min >= 9.5 or not per_min else 1
    yield f"{per_min:,.{digits}f} images a minute"
    if state.in_flight:
        yield f"{state.in_flight:,} in flight"
    if state.to_retry:
        yield f"{state.to_retry:,} to retry"


def _cost(state: RunSnapshot) -> Iterator[str]:
    unpriced = f" and {state.unpriced:,} of unknown cost" if state.unpriced else ""
    of_budget = "" if state.max_cost_usd is None else f" of the budget of {usd(state.max_cost_usd)}"
    so_far = f"{usd(state.cost_usd)}{unpriced}{of_budget} so far"
    if state.is_stopping:
        yield f"{so_far}, at list price"
        return
    yield so_far
    if state.projected_usd is None:
        yield "cost unknown"
    else:
        yield f"about {usd(state.projected_usd)} at the end, at list price"


def _gauges(state: RunSnapshot, cells: int) -> Iterator[Text]:
    is_narrow = cells < _NARROW_CELLS
    for model, every in state.used.items():
        shown = [(used, used.bound.limit) for used in every if used.bound.limit is not None]
        if len(state.used) > 1 and shown:
            yield Text(plain(model), "dim")
        labels = [f"{used.bound.unit}s {used.bound.span}" for used, _ in shown]
        limits = [quantity(used.bound, limit) for used, limit in shown]
        wide, digits = max(map(len, labels), default=0), max(map(len, limits), default=0)
        for (used, limit), label in zip(shown, labels, strict=True):
            row = Text(f"{label:<{wide}}  ")
            _append_gauge(row, used, max(1, limit), digits, _GAUGE_CELLS // (2 if is_narrow else 1))
            if used.bound.span == "a day" and not is_narrow:
                resets_at = state.now + timedelta(seconds=used.frees_in_s)
                row.append(f" · resets {clock(resets_at, state.now)}", "dim")
            yield row


def _append_gauge(row: Text, used: Used, limit: int, digits: int, cells: int) -> None:
    is_known = used.used < UNKNOWN
    filled = min(cells, -(-used.used * cells // limit)) if is_known else cells
    is_over = used.bound.span == "a day" and used.used >= limit  # a full minute is the goal
    row.append(_FULL * filled, "yellow" if is_over else "")
    row.append(_EMPTY * (cells - filled), "dim")
    row.append(f"  {quantity(used.bound, used.used) if is_known else 'unknown':>{digits}}")
    row.append(f" of {quantity(used.bound, limit):>{digits}}")


def _batches(state: RunSnapshot, cells: int) -> Iterator[Text]:
    """Yield a bar for each open batch, of the requests that have ended by the server's count."""
    for batch in state.batches[:_MAX_BATCHES]:
        width = _GAUGE_CELLS // (2 if cells < _NARROW_CELLS else 1)
        filled = min(width, (batch.done or 0) * width // max(1, batch.calls))
        row = Text(_FULL * filled)
        row.append(_EMPTY * (width - filled), "dim")
        done = "" if batch.done is None else f"{batch.done:,} of "
        row.append(f"  {done}{count(batch.calls, 'call')} · {plain(batch.state.lower()) or 'new'}")
        row.append(f" · since {clock(batch.since, state.now)}", "dim")
        yield row
    if (more := len(state.batches) - _MAX_BATCHES) > 0:
        yield Text(f"and {more:,} more", "dim")


def _errors(state: RunSnapshot) -> Iterator[Text]:
    for error in reversed(state.errors):
        seen = state.now - timedelta(seconds=state.now_s - error.seen_s)
        repeated = f" and {error.number - 1:,} before it" if error.number > 1 else ""
        yield Text.assemble(
            (f"{seen.astimezone():%H:%M:%S}  ", "dim"),
            plain(error.message),
            (f"  {plain(error.call_id)}{repeated}", "dim"),
        )
