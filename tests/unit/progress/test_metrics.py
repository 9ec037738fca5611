from datetime import UTC, datetime, timedelta

from prometheus_client.parser import text_string_to_metric_families

from gemini_batch.engine.summary import RunTotals, Summary
from gemini_batch.errors import ExitCode
from gemini_batch.progress.metrics import rendered

AT = datetime(2026, 11, 22, 20, tzinfo=UTC)
ODD = 'a "b"\\n\nc.jsonl'


def summary() -> Summary:
    """Return the summary of a run that was stopped."""
    return Summary(
        manifest=ODD,
        out="jobs.out",
        tier="free",
        endpoint="simulator",
        exit_code=ExitCode.REFUSED,
        needs_person=True,
        stops=[],
        calls=9,
        by_status={"succeeded": 4, "blocked": 1},
        left=4,
        run_again_at=None,
        this_run=RunTotals(
            finished=2, sent=5, retries=3, possibly_billed=1, prompt_tokens=7, output_tokens=1120,
            cost_usd=0.1344, by_status={"succeeded": 2},
        ),
        windows=[],
        started_at=AT,
        ended_at=AT + timedelta(seconds=90.5),
        duration_s=90.5,
    )  # fmt: skip


def test_prometheus_reads_every_metric_of_a_run() -> None:
    """Its own parser finds each number, whatever a manifest is called."""
    found = {
        (sample.name.removeprefix("gemini_batch_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(rendered(summary()))
        for sample in family.samples
    }
    run = (("manifest", ODD), ("out", "jobs.out"))
    assert found == {
        ("run_exit_code", *run): 6,
        ("run_needs_person", *run): 1,
        ("run_started_timestamp_seconds", *run): AT.timestamp(),
        ("run_ended_timestamp_seconds", *run): AT.timestamp() + 90.5,
        ("run_cost_usd", *run): 0.1344,
        ("run_unpriced_calls", *run): 0,
        ("run_requests", *run): 5,
        ("run_retries", *run): 3,
        ("run_possibly_billed_requests", *run): 1,
        ("run_tokens", ("kind", "prompt"), *run): 7,
        ("run_tokens", ("kind", "output"), *run): 1120,
        ("run_calls", *run, ("status", "succeeded")): 2,
        ("calls", *run, ("status", "succeeded")): 4,
        ("calls", *run, ("status", "blocked")): 1,
        ("calls_left", *run): 4,
    }
