"""The last lines of a run on a terminal: counts, cost, output folder and next command."""

import shlex
from collections.abc import Iterator

from rich.text import Text

from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.output.paths import IMAGES
from gemini_batch.progress import messages
from gemini_batch.progress.formatting import plain, span
from gemini_batch.progress.live_layout import STYLES
from gemini_batch.progress.view import RunInfo
from gemini_batch.records import Status, StopReason

_LABEL_CELLS = 8
_TITLES: dict[int | None, tuple[str, str]] = {
    ExitCode.DONE: ("done", "bold green"),
    ExitCode.INCOMPLETE: ("finished with errors", "bold yellow"),
}


def final_report(summary: Summary, info: RunInfo) -> Iterator[Text]:
    """Yield the lines."""
    yield Text()
    title = _TITLES.get(summary.exit_code) or (_ending(summary), "bold yellow")
    duration, name = f" in {span(summary.duration_s)}: ", (plain(info.name), "bold")
    yield Text.assemble(title, duration, name)
    yield _labelled("calls", _counts(summary))
    yield _labelled("cost", Text(messages.cost(summary)))
    if billed := messages.possibly_billed(summary):
        yield _labelled("", Text(billed, "yellow"))
    if summary.by_status.get(Status.SUCCEEDED):
        yield _labelled("images", _to_copy(f"{summary.out}/{IMAGES}"))
        yield _labelled("view", _to_copy(f"{info.program} gallery {shlex.quote(summary.out)}"))
    if advice := messages.advice(summary):
        yield _labelled("next", Text(f"{advice}:", "bold"))
        yield _to_copy(info.resume_command)


def _ending(summary: Summary) -> str:
    """Return how a run ended that left calls: nothing has stopped one that only awaits batches."""
    if {stop["reason"] for stop in summary.stops} != {StopReason.WAITING.value}:
        return "stopped"
    return "submitted" if summary.this_run.submitted else "looked at batches"


def _counts(summary: Summary) -> Text:
    by_status = summary.this_run.by_status.items()
    parts = [Text(f"{number:,} {name}", STYLES[Status(name)]) for name, number in by_status]
    if submitted := messages.submitted(summary):
        parts.append(Text(submitted))
    parts = parts or [Text("nothing finished")]
    if summary.left:
        parts.append(Text(f"{summary.left:,} of {summary.calls:,} left"))
    if summary.waiting:
        parts.append(Text(f"{summary.waiting:,} waiting in batches"))
    return Text(" · ").join(parts)


def _labelled(label: str, value: Text) -> Text:
    line = Text.assemble((f"{label:<{_LABEL_CELLS}}", "dim"), value)
    line.no_wrap = value.no_wrap
    return line


def _to_copy(text: str) -> Text:
    """Return a line that is not wrapped, so that it can be copied."""
    return Text(plain(text), no_wrap=True)
