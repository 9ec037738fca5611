"""The commands, as a person or a cron job gives them: over real HTTP, against the simulator."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
import time_machine

from gemini_batch.cli import main
from gemini_batch.cli.options import program
from gemini_batch.simulator import Simulator, SimulatorConfig
from gemini_batch.simulator.faults import FAULTS
from tests.simulated import simulator, wait_for_requests

pytestmark = pytest.mark.loopback

ROOT = Path(__file__).parents[2]
KEY = "AIzaSy-a-key-that-must-never-be-seen-000"


@pytest.fixture
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))


def manifest(folder: Path, *jobs: dict[str, Any]) -> Path:
    """Write a manifest of these jobs."""
    path = folder / "jobs.jsonl"
    path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    return path


def run(path: Path, server: Simulator, *flags: str) -> int:
    """Run a manifest on the server, as fast as it goes."""
    return main(
        [
            "run",
            str(path),
            "--base-url",
            server.base_url,
            "--rpm",
            "6000",
            "--rpd",
            "100000",
            *flags,
        ]
    )


def rows(out: Path) -> list[dict[str, Any]]:
    """Return all rows of an output folder."""
    return [orjson.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]


# --- the main job -----------------------------------------------------------------------------------------------------


def test_the_quickstart_writes_all_images_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The README's first command leaves one image a job, and the same command again sends nothing and says so."""
    shutil.copytree(
        ROOT / "jobs", tmp_path / "jobs", ignore=shutil.ignore_patterns("*.simulated", "*.out")
    )
    command = ["run", str(tmp_path / "jobs/quickstart.jsonl"), "--simulate", "--rpm", "6000"]
    assert main(command) == 0
    out = tmp_path / "jobs/quickstart.simulated"
    done = rows(out)
    assert len(done) == 6
    assert [row["status"] for row in done] == ["succeeded"] * 6
    assert all(
        (out / image["path"]).stat().st_size == image["size_bytes"]
        for row in done
        for image in row["images"]
    )
    assert " at list price (simulated: nothing is paid) " in capsys.readouterr().err

    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert len(rows(out)) == 6


def test_a_real_run_is_not_fooled_by_a_simulated_one(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the simulator answered does not count for another endpoint, not even in the same folder; and it is said beforehand."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot"})
    assert main(["run", str(path), "--simulate", "--out", str(tmp_path / "out")]) == 0
    assert run(path, server, "--out", str(tmp_path / "out")) == 0
    assert (
        "1 edited since done, or done at another endpoint: paid for again"
        in capsys.readouterr().err
    )
    assert [row["endpoint"] for row in rows(tmp_path / "out")] == ["simulator", server.base_url]


@pytest.mark.parametrize(
    ("called", "python", "said"),
    [
        ("{bin}/gemini-batch", "{bin}/python", "gemini-batch"),
        (".venv/bin/gemini-batch", "{bin}/python", ".venv/bin/gemini-batch"),
        ("my env/bin/gemini-batch", "{bin}/python", "'my env/bin/gemini-batch'"),
        ("/lib/gemini_batch/__main__.py", ".venv/bin/python", ".venv/bin/python -m gemini_batch"),
        ("/lib/gemini_batch/__main__.py", "python3", "python3 -m gemini_batch"),
        ("/lib/pytest/__main__.py", "/usr/bin/python3", "python -m gemini_batch"),
    ],
)
def test_a_command_to_copy_calls_the_program_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, python: str, said: str
) -> None:
    """It works where the person copies it: with the environment on the PATH, without it, and by a path with spaces."""
    script = tmp_path / "gemini-batch"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [called.format(bin=tmp_path), "run", "jobs.jsonl"])
    monkeypatch.setattr("sys.orig_argv", [python.format(bin=tmp_path)])
    assert program() == said


def test_the_output_folder_is_beside_the_manifest_never_where_the_person_stands(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jobs/nightly.jsonl` writes into `jobs/nightly.out`, whatever the current folder is."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server) == 0
    assert (tmp_path / "jobs.out/results.jsonl").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_edited_job_is_sent_again_and_its_old_image_kept(
    tmp_path: Path, server: Simulator
) -> None:
    """A paid image is never overwritten: its successor moves it to `superseded/`."""
    path = manifest(
        tmp_path, {"id": "a/robot", "prompt": "A robot"}, {"id": "cat", "prompt": "A cat"}
    )
    assert run(path, server) == 0
    first = (tmp_path / "jobs.out/images/a/robot.jpg").read_bytes()
    path = manifest(
        tmp_path, {"id": "a/robot", "prompt": "A red robot"}, {"id": "cat", "prompt": "A cat"}
    )
    assert run(path, server) == 0
    assert len(server.audit.entries) == 3
    assert (tmp_path / "jobs.out/superseded/a/robot.jpg").read_bytes() == first
    assert (tmp_path / "jobs.out/images/a/robot.jpg").read_bytes() != first


def test_the_summary_goes_to_stdout_as_json_and_nothing_else(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` prints the summary that is in `summary.json`, and words stay on stderr."""
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server, "--json") == 0
    printed = capsys.readouterr()
    assert orjson.loads(printed.out) == orjson.loads(
        (tmp_path / "jobs.out/summary.json").read_bytes()
    )
    assert "1 succeeded" in printed.err


def test_quiet_says_nothing_on_success(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job with `--quiet` sends no mail when all went well."""
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


# --- what a server can answer -----------------------------------------------------------------------------------------

SUCCEEDED = {
    "drafts", "drafts-plain", "text-after", "wrong-mime", "not-an-image", "usage-absent", "decoys", "reordered", "future",
    "pretty", "compact", "escaped", "gzip", "chunked", "trickle", "late", "close",
}  # fmt: skip
BLOCKED = {
    "safety", "image-safety", "prohibited", "recitation", "no-image", "max-tokens", "unknown-reason", "prompt-blocked",
    "unknown-block", "text-only", "no-parts", "content-absent", "content-empty", "parts-null", "candidates-absent",
    "candidates-empty", "thought-only", "data-empty",
} | {name for name in FAULTS if name.startswith(("finish-", "block-"))}  # fmt: skip
REJECTED = {"400", "400-image", "400-size", "403-file", "413"}
FAILED = {
    "408", "499", "500", "500-text", "502", "502-empty", "503", "503-html", "504", "bad-base64", "bad-padding", "array",
    "not-json", "empty-body", "reset", "reset-at-once", "disconnect", "truncated", "truncated-chunks", "cut", "redirect",
}  # fmt: skip
STOPPING = {
    "400-key": (6, "auth"),
    "400-key-expired": (6, "auth"),
    "400-location": (6, "precondition"),
    "400-billing": (6, "precondition"),
    "401": (6, "auth"),
    "402": (5, "billing"),
    "403": (6, "no_access"),
    "403-leaked": (6, "auth"),
    "403-blocked": (6, "auth"),
    "403-html": (6, "auth"),
    "404": (6, "model"),
    "429-minute": (5, "no_quota"),  # with one attempt: else it waits
    "429-day": (5, "day_closed"),
    "429-tokens": (5, "no_quota"),
    "429-images": (5, "no_quota"),
    "429-usd": (5, "no_quota"),
    "429-both": (5, "day_closed"),
    "429-zero": (5, "no_quota"),
    "429-bare": (5, "no_quota"),
    "429-retry-after": (5, "no_quota"),
}
# Past a timeout, or a cap of 256 MB: in tests/wire/test_interactive.py.
SLOW = {"hang", "stall", "endless"}


def test_every_fault_of_the_simulator_is_in_one_of_these_tables() -> None:
    """A fault that is added must be given its expectation here."""
    named = [*SUCCEEDED, *BLOCKED, *REJECTED, *FAILED, *STOPPING, *SLOW]
    assert sorted(named) == sorted(FAULTS)


def test_every_answer_and_error_gets_its_status(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run over all of them: each call ends in one row with the right status, and no traceback is shown."""
    expected = {"succeeded": SUCCEEDED, "blocked": BLOCKED, "rejected": REJECTED, "failed": FAILED}
    jobs = [
        {"id": name, "prompt": f"A robot [[fault:{name}]]"}
        for names in expected.values()
        for name in sorted(names)
    ]
    # Some faults close a connection that another call is about to use again: that call needs a second attempt.
    assert run(manifest(tmp_path, *jobs), server, "--max-attempts", "3") == 4
    found: dict[str, set[str]] = {status: set() for status in expected}
    for row in rows(tmp_path / "jobs.out"):
        found[row["status"]].add(row["id"])
        assert bool(row["images"]) == (row["status"] == "succeeded")
        assert bool(row["error"]) == (row["status"] in {"rejected", "failed"})
    assert found == expected
    assert "Traceback" not in capsys.readouterr().err
    drafts = next(row["drafts"] for row in rows(tmp_path / "jobs.out") if row["id"] == "drafts")
    assert [(tmp_path / "jobs.out" / draft["path"]).stat().st_size for draft in drafts] == [
        draft["size_bytes"] for draft in drafts
    ]


@pytest.mark.parametrize("fault", sorted(STOPPING))
def test_an_error_that_no_call_can_pass_stops_the_run(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    """The run ends with its exit code and a reason, the last line says what to run, and no job is blamed."""
    path = manifest(tmp_path, {"id": "robot", "prompt": f"A robot [[fault:{fault}]]"})
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
    """The person is told which model to use in place of the one that was shut down."""
    assert run(manifest(tmp_path, {"prompt": "A robot [[fault:404]]"}), server) == 6
    assert "--model gemini-3-pro-image\n" in capsys.readouterr().err.replace("; finishing", "\n")


def test_a_transient_error_is_tried_again(tmp_path: Path, server: Simulator) -> None:
    """A call that fails once and then succeeds has one row, which says how often it was sent."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot [[fault:503 x1]]"})
    assert run(path, server) == 0
    assert [(row["status"], row["attempts"]) for row in rows(tmp_path / "jobs.out")] == [
        ("succeeded", 2)
    ]


def test_a_failed_call_is_sent_again_by_the_next_run_and_a_blocked_one_is_not(
    tmp_path: Path, server: Simulator
) -> None:
    """`failed` means: try again; `blocked` is a result, sent again only when asked for."""
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


# --- quota ------------------------------------------------------------------------------------------------------------


def test_a_free_tier_is_used_without_one_429(tmp_path: Path) -> None:
    """Forty-five calls against a sliding minute of two seconds: no 429, the manifest's order, no minute over its limit."""
    (tmp_path / "fast.toml").write_text("[tiers.free]\nminute_s = 2\n")
    path = manifest(
        tmp_path, *({"id": f"n{number:02}", "prompt": f"Number {number}"} for number in range(45))
    )
    with simulator(SimulatorConfig(tier="free", minute_s=2, pixels=16, latency_s=0.02)) as server:
        config = str(tmp_path / "fast.toml")
        assert (
            main(
                [
                    "run",
                    str(path),
                    "--base-url",
                    server.base_url,
                    "--tier",
                    "free",
                    "--config",
                    config,
                ]
            )
            == 0
        )
        assert [entry.http_status for entry in server.audit.entries] == [200] * 45
        assert [entry.prompt for entry in server.audit.entries] == [
            f"Number {number}" for number in range(45)
        ]
        assert server.audit.worst_minute() <= 15


def test_a_day_that_is_over_is_finished_on_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A 429 of the day in mid-run ends it with 5 and the moment of the reset; until then nothing is sent, and then the rest is."""
    path = manifest(
        tmp_path,
        *({"id": f"n{number}", "prompt": f"Number {number}"} for number in range(3)),
        {"id": "last", "prompt": "Last [[fault:429-day x1]]"},
    )
    with (
        time_machine.travel(datetime(2026, 11, 22, 20, 0, tzinfo=UTC)) as wall,
        simulator() as server,
    ):
        assert run(path, server, "--concurrency", "1", "--json") == 5
        summary = orjson.loads(capsys.readouterr().out)
        assert (summary["left"], summary["run_again_at"][:16]) == (1, "2026-11-23T08:00")
        assert run(path, server) == 5
        assert len(server.audit.entries) == 4
        wall.shift(timedelta(hours=13))
        assert run(path, server) == 0
        assert [entry.http_status for entry in server.audit.entries] == [200, 200, 200, 429, 200]


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_bad_manifest_sends_nothing_and_writes_nothing(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3 with every problem and its line; no request, no folder."""
    path = manifest(tmp_path, {"prompt": "A robot", "aspect_ratio": "4:5x"}, {"promt": "A robot"})
    assert run(path, server) == 3
    words = capsys.readouterr().err
    assert 'jobs.jsonl:1: aspect_ratio: got "4:5x"; allowed: 1:1, 16:9' in words
    assert "jobs.jsonl:2: promt:" in words
    assert list(server.audit.entries) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["jobs.jsonl"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tier", "golden"], '--tier: got "golden"; allowed: '),
        (
            ["--tier", "enterprise"],
            '--tier: "enterprise" has no numbers of its own; give the limits of your project',
        ),
        (["--base-url", "ftp://x"], '--base-url: got "ftp://x"; allowed: an address such as '),
        (["--base-url", "http://example.com"], "plain http shows the key to the network"),
        (["--config", "nowhere.toml"], "nowhere.toml: can't be read: No such file or directory"),
    ],
)
def test_a_wrong_setting_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    """Exit 3, what was found and what is allowed, before anything is sent."""
    assert main(["run", str(manifest(tmp_path, {"prompt": "A robot"})), *flags]) == 3
    assert words in capsys.readouterr().err


def test_without_a_key_nothing_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 6, and the sentence names the variable, where keys come from, and the way to try it without."""
    monkeypatch.delenv("GEMINI_API_KEY")
    assert main(["run", str(manifest(tmp_path, {"prompt": "A robot"}))]) == 6
    words = capsys.readouterr().err
    assert "GEMINI_API_KEY" in words
    assert "--simulate" in words


@pytest.mark.parametrize("auth", ["header", "query"])
def test_the_key_is_seen_nowhere(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str], auth: str
) -> None:
    """Neither in words nor in any file that a run wrote, whatever fails."""
    faults = ["503", "400", "reset", "not-json", "502", "redirect"]
    path = manifest(
        tmp_path, *({"id": name, "prompt": f"A robot [[fault:{name}]]"} for name in faults)
    )
    assert run(path, server, "--auth", auth, "--max-attempts", "1", "--json") == 4
    printed = capsys.readouterr()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in printed.out + printed.err
    assert KEY.encode() not in written


@pytest.mark.parametrize("can_be_kept", [True, False])
def test_a_bug_is_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    can_be_kept: bool,
) -> None:
    """Exit 1, no traceback; it is kept in a file, if there is room for one."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path if can_be_kept else tmp_path / "nowhere"))
    monkeypatch.setattr("gemini_batch.cli.plan.main", lambda _options: 1 // 0)
    assert main(["plan", "jobs.jsonl"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    if can_be_kept:
        assert "ZeroDivisionError" in Path(line.rpartition(" ")[2]).read_text()
    else:
        assert (
            line
            == "gemini_batch: a bug in gemini_batch, whose traceback can't be kept: No such file or directory"
        )


# --- plan and status --------------------------------------------------------------------------------------------------


def test_plan_sends_nothing_and_needs_no_key(
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says calls, cost, time and the limit that binds, and writes nothing."""
    monkeypatch.delenv("GEMINI_API_KEY")
    path = manifest(
        tmp_path, {"id": "robot", "prompt": "A robot", "variants": 40, "image_size": "4K"}
    )
    assert main(["plan", str(path), "--json", "--base-url", server.base_url]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["calls"], found["to_send"], found["done"]) == (40, 40, 0)
    assert found["cost_usd"] == pytest.approx(40 * 0.24, rel=0.01)
    assert found["bound_by"] == "15 requests a minute"
    assert list(server.audit.entries) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["jobs.jsonl"]


def test_status_counts_the_newest_rows_and_names_missing_images(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished image that a person deleted is reported, not made again."""
    path = manifest(
        tmp_path,
        {"id": "robot", "prompt": "A robot"},
        {"id": "no", "prompt": "No [[fault:safety]]"},
    )
    assert run(path, server) == 0
    (tmp_path / "jobs.out/images/robot.jpg").unlink()
    assert run(path, server) == 0
    capsys.readouterr()
    assert main(["status", str(tmp_path / "jobs.out"), "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["by_status"] == {"succeeded": 1, "blocked": 1}
    assert found["missing_images"] == ["images/robot.jpg"]
    assert len(server.audit.entries) == 2


def test_a_run_that_was_killed_is_told_as_such(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` says that the last run has no end, and `verify` does not hold it against rows that it never counted."""
    path = manifest(
        tmp_path,
        {"id": "robot", "prompt": "A robot"},
        {"id": "cat", "prompt": "A cat [[fault:late=30]]"},
    )
    process = started(path, server, "--concurrency", "1", "--rpm", "6000")
    wait_for_requests(server, 2)
    process.kill()
    process.communicate(timeout=20)
    assert main(["status", str(tmp_path / "jobs.out")]) == 0
    assert (
        f"last run of {path}: still running, or killed; started with 2 of 2 left"
        in capsys.readouterr().out
    )
    assert main(["verify", str(tmp_path / "jobs.out")]) == 0


# --- as a process -----------------------------------------------------------------------------------------------------


def started(path: Path, server: Simulator, *flags: str) -> subprocess.Popen[str]:
    """Start a run as a process of its own."""
    command = [
        sys.executable,
        "-m",
        "gemini_batch",
        "run",
        str(path),
        "--base-url",
        server.base_url,
        *flags,
    ]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"GEMINI_API_KEY": KEY},
    )


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the next line that the process says."""
    assert process.stderr is not None
    return process.stderr.readline()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains(tmp_path: Path, sent: signal.Signals, code: int) -> None:
    """What is in flight is finished and written, the exit code says so, and the next run sends only the rest."""
    path = manifest(
        tmp_path, *({"id": f"n{number}", "prompt": f"Number {number}"} for number in range(8))
    )
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=1.0)) as server:
        process = started(path, server, "--concurrency", "3", "--rpm", "6000")
        first_line(process)
        wait_for_requests(server, 3)
        process.send_signal(sent)
        words = process.communicate(timeout=20)[1]
        assert process.returncode == code
        assert "finishing 3 calls already paid for" in words
        assert f"gemini_batch run {path}" in words.splitlines()[-1]
        assert len(rows(tmp_path / "jobs.out")) == 3
        assert run(path, server) == 0
        assert sorted(row["id"] for row in rows(tmp_path / "jobs.out")) == [
            f"n{number}" for number in range(8)
        ]
        assert len(server.audit.entries) == 8


def test_the_second_signal_abandons_and_the_next_run_names_what_may_be_billed(
    tmp_path: Path,
) -> None:
    """A person in a hurry gets out at once, and is told what it may have cost."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=30 x1]]"})
    with simulator() as server:
        process = started(path, server)
        first_line(process)
        wait_for_requests(server, 1)
        process.send_signal(signal.SIGINT)
        words = (
            "stopping: interrupted; finishing 1 call already paid for; Ctrl-C again to abandon it\n"
        )
        assert first_line(process) == words
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=20)[1]
        assert process.returncode == 130
        assert "1 request failed without an answer and may have been billed" in words


@pytest.mark.parametrize(
    "sent",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM),
    ],
)
def test_a_signal_that_comes_twice_at_once_is_one(
    tmp_path: Path, sent: tuple[signal.Signals, signal.Signals]
) -> None:
    """A group is signalled, and a wrapper in it passes the signal on: what is paid for is finished all the same."""
    path = manifest(tmp_path, {"id": "late", "prompt": "Late [[fault:late=2 x1]]"})
    with simulator() as server:
        process = started(path, server)
        first_line(process)
        wait_for_requests(server, 1)
        process.send_signal(sent[0])
        first_line(process)
        process.send_signal(sent[1])
        process.communicate(timeout=20)
        assert [row["status"] for row in rows(tmp_path / "jobs.out")] == ["succeeded"]


HANGS = """\
import asyncio
import socket
import threading

def hang(*_):
    print("asked", flush=True)
    threading.Event().wait()

async def close(loop, *_):
    print("closing", flush=True)
    await closed(loop)

socket.getaddrinfo = hang
closed = asyncio.BaseEventLoop.shutdown_default_executor
asyncio.BaseEventLoop.shutdown_default_executor = close
"""


def test_ctrl_c_again_and_again_ends_a_run_that_hangs(tmp_path: Path) -> None:
    """A name that nobody resolves holds a thread: who presses three times gets out, with the run's last words and no traceback."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot"})
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gemini_batch",
            "run",
            str(path),
            "--base-url",
            "https://example.invalid",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"GEMINI_API_KEY": KEY, "PYTHONPATH": str(tmp_path)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        first_line(process)
        process.send_signal(signal.SIGINT)
        assert "Ctrl-C again to abandon it" in first_line(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "closing\n"
        process.send_signal(signal.SIGINT)
        words = process.communicate(timeout=20)[1]
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in words
    assert "nothing was sent" not in words
    assert words.splitlines()[-1].startswith("run again to continue: ")


def test_a_second_run_on_one_folder_is_told_so(tmp_path: Path) -> None:
    """Exit 7 at once, and the first run is named and undisturbed."""
    path = manifest(tmp_path, {"id": "slow", "prompt": "Slow [[fault:late=2]]"})
    with simulator() as server:
        process = started(path, server)
        first_line(process)
        wait_for_requests(server, 1)
        other = started(path, server)
        words = other.communicate(timeout=20)[1]
        assert other.returncode == 7
        assert f"process {process.pid}" in words
        process.communicate(timeout=20)
        assert process.returncode == 0


def test_help_imports_nothing_heavy() -> None:
    """`--help` and `import gemini_batch` load neither aiohttp nor pydantic nor rich."""
    code = (
        "import sys, contextlib, io\n"
        "from gemini_batch.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main(['run', '--help'])\n"
        "print(sorted({'aiohttp', 'pydantic', 'rich', 'PIL'} & set(sys.modules)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout == "[]\n"
