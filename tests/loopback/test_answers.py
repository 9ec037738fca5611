"""Every answer and error of a server, and the status or exit code that it leads to."""

from pathlib import Path

import orjson
import pytest

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.simulator import Simulator
from gemini_batch.simulator.faults import FAULTS
from tests.loopback.commands import manifest, rows, run, use_key_and_state

pytestmark = pytest.mark.loopback


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


SUCCEEDED = {
    "drafts", "drafts-plain", "text-after", "wrong-mime", "not-an-image", "usage-absent", "decoys", "reordered", "future",
    "pretty", "compact", "escaped", "no-end", "gzip", "array", "chunked", "trickle", "late", "close",
    "file-uri", "file-uri-slow", "file-uri-redirect", "file-uri-cut", "usage-zero", "tier-standard", "tier-absent", "searches",
}  # fmt: skip
BLOCKED = {
    "safety", "image-safety", "prohibited", "recitation", "no-image", "max-tokens", "unknown-reason", "prompt-blocked",
    "unknown-block", "text-only", "no-parts", "content-absent", "content-empty", "parts-null", "candidates-absent",
    "candidates-empty", "thought-only", "data-empty",
} | {name for name in FAULTS if name.startswith(("finish-", "block-"))}  # fmt: skip
REJECTED = {"400", "400-image", "400-size", "403-file"}
FAILED = {
    "400-fetch", "408", "413", "499", "500", "500-text", "502", "502-empty", "503", "503-html", "504", "bad-base64", "bad-padding",
    "not-json", "empty-body", "reset", "reset-at-once", "disconnect", "truncated", "truncated-chunks", "cut",
    "file-uri-404", "file-uri-404-once", "file-uri-page",
}  # fmt: skip
STOPPING = {
    "400-key": (6, "auth"),
    "400-key-expired": (6, "auth"),
    "400-location": (6, "precondition"),
    "400-billing": (6, "precondition"),
    "401": (6, "auth"),
    "401-expired": (6, "auth"),
    "402": (6, "billing"),
    "403": (6, "no_access"),
    "403-leaked": (6, "auth"),
    "403-blocked": (6, "auth"),
    "403-disabled": (6, "auth"),
    "403-role": (6, "no_access"),
    "403-html": (6, "auth"),
    "404": (6, "model"),
    "404-gone": (6, "model"),  # the manifest names the model: it is never replaced
    "redirect": (6, "address"),
    "429-minute": (6, "no_quota"),  # with one attempt: else it waits
    "429-day": (5, "day_closed"),
    "429-tokens": (6, "no_quota"),
    "429-images": (6, "no_quota"),
    "429-usd": (6, "no_quota"),
    "429-both": (5, "day_closed"),
    "429-zero": (6, "no_quota"),
    "429-bare": (6, "no_quota"),
    "429-day-text": (5, "day_closed"),
    "429-shared": (6, "no_quota"),
    "429-retry-after": (6, "no_quota"),
}
# Past a timeout, or a cap of 256 MB: in tests/wire/test_interactive.py.
SLOW = {"hang", "stall", "endless"}


def test_every_fault_of_the_simulator_is_in_one_of_these_tables() -> None:
    """A fault that is added must be given its expectation here."""
    named = [*SUCCEEDED, *BLOCKED, *REJECTED, *FAILED, *STOPPING, *SLOW]
    assert sorted(named) == sorted(FAULTS)


@pytest.mark.promise("clear")
def test_every_answer_and_error_gets_its_status(
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One run over all of them: each call ends in one row with the right status, and no traceback is shown."""
    expected = {"succeeded": SUCCEEDED, "blocked": BLOCKED, "rejected": REJECTED, "failed": FAILED}
    jobs = [
        {"id": name, "prompt": f"A robot [[fault:{name}]]"}
        for names in expected.values()
        for name in sorted(names)
    ]
    # Some faults close a connection that another call is about to reuse, so that it needs a retry.
    monkeypatch.setattr("gemini_batch.engine.backoff.FIRST_BACKOFF_S", 0.2)
    assert run(manifest(tmp_path, *jobs), server, "--max-attempts", "3") == 4
    found: dict[str, set[str]] = {status: set() for status in expected}
    for row in rows(tmp_path / "jobs.out"):
        found[row["status"]].add(row["id"])
        assert bool(row["images"]) == (row["status"] == "succeeded")
        assert bool(row["error"]) == (row["status"] in {"rejected", "failed"})
    assert found == expected
    assert "Traceback" not in capsys.readouterr().err
    kept = (tmp_path / "jobs.out/.gemini_batch/unreadable").glob("*")
    named = {
        row["id"]: row["error"]["message"] for row in rows(tmp_path / "jobs.out") if row["error"]
    }
    ids = {name for path in kept for name, message in named.items() if message.endswith(path.name)}
    assert ids == {"bad-base64", "bad-padding", "cut"}
    assert [row["id"] for row in rows(tmp_path / "jobs.out") if row["is_cut"]] == ["no-end"]
    drafts = next(row["drafts"] for row in rows(tmp_path / "jobs.out") if row["id"] == "drafts")
    assert [(tmp_path / "jobs.out" / draft["path"]).stat().st_size for draft in drafts] == [
        draft["size_bytes"] for draft in drafts
    ]


@pytest.mark.parametrize("fault", sorted(STOPPING))
def test_an_error_that_no_call_can_pass_stops_the_run(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """The run ends with its exit code and a reason, the last line is the next command, no job fails."""
    job = {"id": "robot", "prompt": f"A robot [[fault:{fault}]]", "model": DEFAULT_MODEL}
    path = manifest(tmp_path, job)
    code, reason = STOPPING[fault]
    assert run(path, server, "--max-attempts", "1", "--json") == code
    printed = capsys.readouterr()
    summary = orjson.loads(printed.out)
    assert [stop["reason"] for stop in summary["stops"]] == [reason]
    assert summary["left"] == 1
    assert rows(tmp_path / "jobs.out") == []
    assert "python -m gemini_batch run" in printed.err.splitlines()[-1]
    assert ("run_again_at" in summary and summary["run_again_at"] is not None) == (
        reason == "day_closed"
    )


def test_a_model_that_is_gone_names_its_successor(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the model to use instead of the one that was shut down."""
    path = manifest(tmp_path, {"prompt": "A robot [[fault:404]]"})
    assert run(path, server, "--model", DEFAULT_MODEL) == 6
    assert "--model gemini-3-pro-image\n" in capsys.readouterr().err.replace("; finishing", "\n")


def test_a_transient_error_is_tried_again(tmp_path: Path, server: Simulator) -> None:
    """A call that fails once and then succeeds has one row with two attempts."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot [[fault:503 x1]]"})
    assert run(path, server) == 0
    assert [(row["status"], row["attempts"]) for row in rows(tmp_path / "jobs.out")] == [
        ("succeeded", 2)
    ]


def test_a_failed_call_is_sent_again_by_the_next_run_and_a_blocked_one_is_not(
    tmp_path: Path, server: Simulator
) -> None:
    """`failed` is retried; `blocked` is a result, sent again only on request."""
    path = manifest(
        tmp_path,
        {"id": "flaky", "prompt": "A robot [[fault:503 x1]]"},
        {"id": "unsafe", "prompt": "A robot [[fault:safety]]"},
    )
    assert run(path, server, "--max-attempts", "1") == 4
    assert run(path, server, "--max-attempts", "1") == 0
    assert [row["id"] for row in rows(tmp_path / "jobs.out")][2:] == ["flaky"]
    assert run(path, server, "--retry", "blocked") == 0
    assert [row["id"] for row in rows(tmp_path / "jobs.out")][3:] == ["unsafe"]
