"""Metrics of a run in the text format of Prometheus, for the textfile collector of node_exporter.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/ (2026-11-30).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeAlias

from gemini_batch.engine.summary import Summary

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_Sample: TypeAlias = tuple[Mapping[str, str], float]


def rendered(summary: Summary) -> str:
    """Return the metrics of a run that has ended; all have its manifest and folder as labels."""
    run, labels = summary.this_run, {"manifest": summary.manifest, "out": summary.out}
    return "".join(
        _metric(name, text, [({**labels, **more}, value) for more, value in samples])
        for name, text, samples in (
            ("run_exit_code", "Exit code of the last run.", _one(summary.exit_code)),
            ("run_needs_person", "1 if user action is required.", _one(summary.needs_person)),
            (
                "run_started_timestamp_seconds",
                "Start of the last run.",
                _one(_seconds(summary.started_at)),
            ),
            ("run_ended_timestamp_seconds", "Its end.", _one(_seconds(summary.ended_at))),
            ("run_cost_usd", "Cost of its answers at list price.", _one(run.cost_usd)),
            ("run_unpriced_calls", "Its answers of unknown cost.", _one(run.unpriced)),
            ("run_requests", "Requests it sent, retries included.", _one(run.sent)),
            ("run_retries", "Requests it sent again.", _one(run.retries)),
            (
                "run_possibly_billed_requests",
                "Requests without a usable answer that may have been billed.",
                _one(run.possibly_billed),
            ),
            (
                "run_tokens",
                "Tokens as the server counted them.",
                [({"kind": "prompt"}, run.prompt_tokens), ({"kind": "output"}, run.output_tokens)],
            ),
            ("run_calls", "Calls that ended in it, by status.", _by_status(run.by_status)),
            ("calls", "Calls of the manifest by their newest row.", _by_status(summary.by_status)),
            ("calls_left", "Calls that are not done.", _one(summary.left)),
        )
    )


def _one(value: float) -> list[_Sample]:
    return [({}, value)]


def _by_status(counts: Mapping[str, int]) -> list[_Sample]:
    return [({"status": status}, number) for status, number in counts.items()]


def _seconds(at: datetime) -> float:
    return round(at.timestamp(), 3)


def _metric(name: str, text: str, samples: Iterable[_Sample]) -> str:
    name = f"gemini_batch_{name}"
    lines = [f"{name}{{{_labels(labels)}}} {_number(value)}\n" for labels, value in samples]
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n{''.join(lines)}"


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
