"""The commands as a user or a cron job gives them, over real HTTP against the simulator."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import time_machine

from gemini_batch.cli import main
from gemini_batch.cli.options import program
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.commands import (
    KEY,
    ROOT,
    manifest,
    rows,
    run,
    use_key_and_state,
)
from tests.simulated import simulator

pytestmark = pytest.mark.loopback


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


# --- the main job ----------------------------------------------------------------------------------


@pytest.mark.promise("once")
def test_the_quickstart_writes_all_images_and_a_second_run_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command of the README writes one image per job; repeated, it sends nothing."""
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
    """Answers of the simulator do not count for another endpoint, even in the same folder."""
    path = manifest(tmp_path, {"id": "robot", "prompt": "A robot"})
    assert main(["run", str(path), "--simulate", "--out", str(tmp_path / "out")]) == 0
    assert run(path, server, "--out", str(tmp_path / "out")) == 0
    assert (
        "1 edited since done, or done at another endpoint: will be paid for again"
        in capsys.readouterr().err
    )
    assert [row["endpoint"] for row in rows(tmp_path / "out")] == ["simulator", server.base_url]


@pytest.mark.parametrize(
    ("called", "python", "message"),
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, python: str, message: str
) -> None:
    """It works with the environment on the PATH, without it, and with a path with spaces."""
    script = tmp_path / "gemini-batch"
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [called.format(bin=tmp_path), "run", "jobs.jsonl"])
    monkeypatch.setattr("sys.orig_argv", [python.format(bin=tmp_path)])
    assert program() == message


def test_the_output_folder_is_next_to_the_manifest(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jobs/nightly.jsonl` writes into `jobs/nightly.out`, from any current folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server) == 0
    assert (tmp_path / "jobs.out/results.jsonl").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.promise("once")
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
    """`--json` prints the content of `summary.json`; messages go to stderr."""
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server, "--json") == 0
    printed = capsys.readouterr()
    assert orjson.loads(printed.out) == orjson.loads(
        (tmp_path / "jobs.out/summary.json").read_bytes()
    )
    assert "1 succeeded" in printed.err


def test_quiet_says_nothing_on_success(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cron job with `--quiet` sends no mail on success."""
    assert run(manifest(tmp_path, {"prompt": "A robot"}), server, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


# --- quota -----------------------------------------------------------------------------------------


def test_a_free_tier_is_used_without_one_429(tmp_path: Path) -> None:
    """Thirty calls in a sliding minute of two seconds: each is sent once, and none gets a 429."""
    (tmp_path / "fast.toml").write_text("[tiers.free]\nminute_s = 2\n")
    jobs = [{"id": f"n{number:02}", "prompt": f"Number {number}"} for number in range(30)]
    with simulator(SimulatorConfig(tier="free", minute_s=2, pixels=16, latency_s=0.02)) as server:
        command = ["run", str(manifest(tmp_path, *jobs)), "--base-url", server.base_url]
        assert main([*command, "--tier", "free", "--config", str(tmp_path / "fast.toml")]) == 0
        assert [entry.http_status for entry in server.audit.entries] == [200] * 30
        assert {entry.prompt for entry in server.audit.entries} == {job["prompt"] for job in jobs}
        assert server.audit.worst_minute() <= 15


def test_a_day_that_is_over_is_finished_on_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daily 429 ends the run with 5 and the time of the reset; the rest is sent after it."""
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


# --- bad input -------------------------------------------------------------------------------------


def test_a_bad_manifest_sends_nothing_and_writes_nothing(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3 with every problem and its line; no request, no folder."""
    path = manifest(tmp_path, {"prompt": "A robot", "aspect_ratio": "4:5x"}, {"promt": "A robot"})
    assert run(path, server) == 3
    said = capsys.readouterr().err
    assert 'jobs.jsonl:1: aspect_ratio: got "4:5x"; allowed: 1:1, 16:9' in said
    assert "jobs.jsonl:2: promt:" in said
    assert list(server.audit.entries) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["jobs.jsonl"]


@pytest.mark.parametrize(
    ("flags", "message"),
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
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    """Exit 3 with what was found and what is allowed, before anything is sent."""
    assert main(["run", str(manifest(tmp_path, {"prompt": "A robot"})), *flags]) == 3
    assert message in capsys.readouterr().err


def test_without_a_key_nothing_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 6; the message names the variable, the source of keys, and the simulator."""
    monkeypatch.delenv("GEMINI_API_KEY")
    assert main(["run", str(manifest(tmp_path, {"prompt": "A robot"}))]) == 6
    said = capsys.readouterr().err
    assert "GEMINI_API_KEY" in said
    assert "--simulate" in said


@pytest.mark.parametrize("auth", ["header", "query"])
@pytest.mark.promise("clear")
def test_the_key_is_seen_nowhere(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str], auth: str
) -> None:
    """It is in no message and in no file that a run wrote, with every kind of failure."""
    faults = ["503", "400", "reset", "not-json", "502"]
    path = manifest(
        tmp_path, *({"id": name, "prompt": f"A robot [[fault:{name}]]"} for name in faults)
    )
    assert run(path, server, "--auth", auth, "--max-attempts", "1", "--json") == 4
    redirected = manifest(tmp_path, {"id": "redirect", "prompt": "A robot [[fault:redirect]]"})
    assert run(redirected, server, "--auth", auth, "--json") == 6
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
    """Exit 1 and one line; the traceback is saved in a file, if possible."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path if can_be_kept else tmp_path / "nowhere"))
    monkeypatch.setattr("gemini_batch.cli.plan.main", lambda _options: 1 // 0)
    assert main(["plan", "jobs.jsonl"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    if can_be_kept:
        assert "ZeroDivisionError" in Path(line.rpartition(" ")[2]).read_text()
    else:
        assert (
            line
            == "gemini-batch: a bug in gemini_batch; its traceback can't be saved: No such file or directory"
        )


# --- plan and status -------------------------------------------------------------------------------


def test_plan_sends_nothing_and_needs_no_key(
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It shows calls, cost, time and the decisive limit, and writes nothing."""
    monkeypatch.delenv("GEMINI_API_KEY")
    path = manifest(
        tmp_path, {"id": "robot", "prompt": "A robot", "variants": 40, "image_size": "4K"}
    )
    assert main(["plan", str(path), "--json", "--base-url", server.base_url]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["calls"], found["to_send"], found["done"]) == (40, 40, 0)
    assert found["cost_usd"] == pytest.approx(40 * (0.24 + 300 * 12 / 1e6), rel=0.01)
    assert found["bound_by"] == "15 requests a minute"
    assert list(server.audit.entries) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["jobs.jsonl"]


def test_status_counts_the_newest_rows_and_names_missing_images(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finished image that the user deleted is reported, not made again."""
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
