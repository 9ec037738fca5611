"""The last lines of a run on a terminal: what there is, what it cost, where it is, and what to do next."""

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
from gemini_batch.records import Status

_LABEL_CELLS = 8


def ending(summary: Summary, about: RunInfo) -> Iterator[Text]:
    """Yield the lines."""
    yield Text()
    yield _title(summary, about.name)
    yield _labelled("calls", _counts(summary))
    yield _labelled("cost", Text(messages.cost(summary)))
    if billed := messages.possibly_billed(summary):
        yield _labelled("", Text(billed, "yellow"))
    if summary.by_status.get(Status.SUCCEEDED):
        yield _labelled("images", _to_copy(f"{summary.out}/{IMAGES}"))
        yield _labelled("look", _to_copy(f"{about.program} gallery {shlex.quote(summary.out)}"))
    if advice := messages.advice(summary):
        yield _labelled("next", Text(f"{advice}:", "bold"))
        yield _to_copy(about.again)


def _title(summary: Summary, name: str) -> Text:
    line = Text()
    if summary.exit_code == ExitCode.DONE:
        line.append("done", "bold green")
    elif summary.exit_code == ExitCode.INCOMPLETE:
        line.append("done, but not all is well", "bold yellow")
    else:
        line.append("stopped", "bold yellow")
    line.append(f" in {span(summary.duration_s)}: ")
    line.append(plain(name), "bold")
    return line


def _counts(summary: Summary) -> Text:
    line = Text()
    for name, number in summary.this_run.by_status.items():
        line.append(" · " if line else "")
        line.append(f"{number:,} {name}", STYLES[Status(name)])
    if not line:
        line.append("nothing finished")
    if summary.left:
        line.append(f" · {summary.left:,} of {summary.calls:,} left")
    return line


def _labelled(label: str, value: Text) -> Text:
    line = Text(no_wrap=value.no_wrap)
    line.append(f"{label:<{_LABEL_CELLS}}", "dim")
    line.append_text(value)
    return line


def _to_copy(words: str) -> Text:
    """Return what only the terminal may break into lines."""
    return Text(plain(words), no_wrap=True)
