"""`plan` takes every command line of `run`, and shows what a part and a budget come to."""

import re
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from tests import render

VALUES = {
    "--config": "prices.toml",
    "--retry": "blocked",
    "--reuse-from": "earlier.out",
    "--on-uncertain": "skip",
    "--auth": "query",
    "--log-format": "text",
    "--service-tier": "standard",
    "--model": "gemini-3-pro-image",
    "--format": "jsonl",
    "--tier": "tier-1",
    "--route": "batch",
    "--ledger": "postgresql://127.0.0.1:9/none",
    "--base-url": "http://127.0.0.1:9",
}
# Of two that exclude each other, one that needs an answer of a server, and those that need a bucket or a launcher.
LEFT_OUT = {
    *("--help", "--simulate", "--forget", "--only", "--redo", "--vertex", "--shard", "--scratch"),
}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    jobs = [{"id": f"robot-{number}", "prompt": "A robot"} for number in range(28)]
    Path("jobs.jsonl").write_bytes(b"\n".join(map(orjson.dumps, jobs)))
    Path("prices.toml").write_text("")


def test_every_flag_of_run_is_one_of_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """To try a command line, `run` is replaced by `plan`; flags that change nothing are not in its help."""
    Path("earlier.out").mkdir()
    Path("earlier.out/results.jsonl").write_text("")
    usage = render.help_of(["run", "--help"]).partition("\n\n")[0]
    flags = dict(re.findall(r"(--[a-z0-9-]+)(?: ([A-Z.]+|\{[^}]*\}))?", usage))
    assert len(flags) > 30
    line = [
        word
        for flag, metavar in flags.items()
        if flag not in LEFT_OUT
        for word in (flag, VALUES.get(flag, "9") if metavar else "")
        if word
    ]
    assert main(["plan", "jobs.jsonl", *line]) == 0
    capsys.readouterr()
    assert "--max-attempts" not in render.help_of(["plan", "--help"])


def test_a_budget_says_for_how_many_calls_it_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    """As many as a run sends before the budget ends it."""
    assert main(["plan", "jobs.jsonl", "--max-cost", "2"]) == 0
    assert "  budget  $2.00: enough for about 14 of 28 calls\n" in capsys.readouterr().out
    assert main(["plan", "jobs.jsonl", "--max-cost", "20"]) == 0
    assert "  budget  $20.00: enough for all 28 calls\n" in capsys.readouterr().out
    assert main(["plan", "jobs.jsonl", "--max-cost", "2", "--limit", "1"]) == 0
    assert "  budget  $2.00: enough for the call\n" in capsys.readouterr().out


def test_a_budget_of_batches_says_how_many_calls_a_first_run_submits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It holds the most that each may cost; later runs submit the rest."""
    batch = ["plan", "jobs.jsonl", "--route", "batch", "--max-cost"]
    assert main([*batch, "1.5"]) == 0
    assert (
        "  budget  $1.50: enough for about 21 of 28 calls, of which a first run submits about 5, because "
        "each may cost more; later runs, or --wait, submit the rest\n"
    ) in capsys.readouterr().out
    assert main([*batch, "1.5", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["submitted_at_first"] == 5
    assert main([*batch, "20"]) == 0
    assert "  budget  $20.00: enough for all 28 calls\n" in capsys.readouterr().out


def test_a_part_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, globs and files of them; calls, cost and time are those of the part."""
    Path("ids.txt").write_text("robot-3\n\nrobot-1\r\n")
    line = ["plan", "jobs.jsonl", "--only", "@ids.txt", "robot-2?", "--limit", "5", "--json"]
    assert main(line) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["calls"], found["to_send"], found["later"]) == (28, 5, 23)
    assert found["models"][0]["calls"] == 5
    assert main(line[:-1]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "jobs.jsonl: valid; 28 calls, 0 done, 5 to send, 23 left for other runs"


@pytest.mark.parametrize(
    ("only", "message"),
    [
        ("robot", 'jobs.jsonl has no call "robot": ids are those of calls, such as robot and robot.2; a glob has * or ?'),
        ("cat*", 'jobs.jsonl has no call "cat*": ids are those of calls, such as robot and robot.2; a glob has * or ?'),
        ("@nowhere.txt", "nowhere.txt: can't be read: No such file or directory"),
        ("@.", ".: can't be read: Is a directory"),
        ("@prices.toml", "prices.toml: is empty; write one entry per line"),
        ("@latin.txt", "latin.txt: not UTF-8; save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_part_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], only: str, message: str
) -> None:
    """Exit 3, and what is wrong."""
    Path("latin.txt").write_bytes(b"caf\xe9\n")
    assert main(["plan", "jobs.jsonl", "--only", only]) == 3
    assert capsys.readouterr().err == f"gemini-batch: --only: {message}\n"
