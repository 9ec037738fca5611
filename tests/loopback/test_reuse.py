"""Answers of other output folders, reused at no cost by runs from end to end."""

import os
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output.rows import read_rows
from tests.builders import tree
from tests.simulated import simulator

BASE_URL = "GEMINI_BATCH_BASE_URL"


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of four calls, three of which ask for the same."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv(BASE_URL, raising=False)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    path = tmp_path / "jobs.jsonl"
    lines = [{"id": "robot", "prompt": "A robot", "variants": 2}, {"id": "cat", "prompt": "A cat"}]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return path


def test_what_another_folder_has_is_not_sent(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`plan` and `run` count it at no cost, `verify` passes, and only new calls are sent."""
    other = manifest.with_name("other.jsonl")
    other.write_bytes(
        manifest.read_bytes()
        + b'{"id": "dog", "prompt": "A dog"}\n{"id": "third", "prompt": "A robot"}\n'
    )
    with simulator() as server:
        to = ["--base-url", server.base_url, "--rpm", "6000"]
        assert main(["run", str(manifest), *to]) == 0
        assert len(server.audit.entries) == 3
        flags = [*to, "--reuse-from", str(manifest.with_name("jobs.out"))]
        capsys.readouterr()

        assert main(["plan", str(other), "--json", *flags]) == 0
        found = orjson.loads(capsys.readouterr().out)
        assert (found["calls"], found["to_send"], found["reused"]) == (5, 2, 3)
        assert found["reused_from"] == {str(manifest.with_name("jobs.out")): 3}
        assert found["cost_usd"] == pytest.approx(2 * (0.1344 + 300 * 12 / 1e6), rel=0.01)
        assert main(["plan", str(other), *flags]) == 0
        assert (
            f"  reused  3 from {manifest.with_name('jobs.out')}, at no cost\n"
            in capsys.readouterr().out
        )

        assert main(["run", str(other), "--json", *flags]) == 0
        printed = capsys.readouterr()
        summary = orjson.loads(printed.out)
        assert "2 calls to send · 3 reused at no cost" in printed.err
        assert (
            summary["this_run"]["finished"],
            summary["this_run"]["reused"],
            summary["this_run"]["sent"],
        ) == (
            5,
            3,
            2,
        )
        assert [entry.prompt for entry in server.audit.entries][3:] == ["A dog", "A robot"]
        out = manifest.with_name("other.out")
        rows = {row["id"]: row for row in read_rows(out)}
        assert {name for name, row in rows.items() if row["reused_from"]} == {
            "robot",
            "robot.2",
            "cat",
        }
        for name in ("robot", "robot.2", "cat"):
            assert rows[name]["reused_from"]["id"] == name
        assert main(["verify", str(out)]) == 0

        assert main(["run", str(other), *flags]) == 0
        assert len(server.audit.entries) == 5


def test_a_run_of_reused_calls_alone_sends_nothing(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither quota nor price counts for a reused answer; edited lines are not paid for again."""
    with simulator() as server:
        to = ["--base-url", server.base_url, "--rpm", "6000"]
        assert main(["run", str(manifest), *to]) == 0
        out = manifest.with_name("new")
        assert (
            main(
                [
                    "run",
                    str(manifest),
                    *to,
                    "--out",
                    str(out),
                    "--reuse-from",
                    str(manifest.with_name("jobs.out")),
                ]
            )
            == 0
        )
        assert len(server.audit.entries) == 3
        assert [row["cost_usd"] for row in read_rows(out)] == [0.0] * 3
        capsys.readouterr()

        manifest.write_bytes(b'{"id": "cat", "prompt": "A robot"}\n')
        flags = [*to, "--out", str(out), "--reuse-from", str(manifest.with_name("jobs.out"))]
        assert main(["plan", str(manifest), "--json", *flags]) == 0
        found = orjson.loads(capsys.readouterr().out)
        assert (found["edited"], found["reused"], found["to_send"]) == (
            1,
            0,
            1,
        )  # both answers are in the folder already


def test_an_edited_line_can_be_reused(manifest: Path) -> None:
    """A line edited into a request with a reusable answer supersedes its old image."""
    with simulator() as server:
        to = ["--base-url", server.base_url, "--rpm", "6000"]
        assert main(["run", str(manifest), *to]) == 0
        edited = manifest.with_name("edited.jsonl")
        edited.write_bytes(b'{"id": "one", "prompt": "A dog"}\n')
        assert main(["run", str(edited), *to]) == 0
        edited.write_bytes(b'{"id": "one", "prompt": "A cat"}\n')
        assert (
            main(["run", str(edited), *to, "--reuse-from", str(manifest.with_name("jobs.out"))])
            == 0
        )
        assert len(server.audit.entries) == 4
    out = edited.with_name("edited.out")
    assert {"images/one.jpg", "superseded/one.jpg"} <= set(tree(out))
    assert tree(out)["images/one.jpg"] == tree(manifest.with_name("jobs.out"))["images/cat.jpg"]


def test_what_was_simulated_is_never_reused_for_real(manifest: Path) -> None:
    """A real run does not reuse a folder of the simulator."""
    assert main(["run", str(manifest), "--simulate", "--rpm", "6000"]) == 0
    with simulator() as server:
        flags = [
            "--base-url",
            server.base_url,
            "--rpm",
            "6000",
            "--reuse-from",
            str(manifest.with_name("jobs.simulated")),
        ]
        assert main(["run", str(manifest), *flags]) == 0
        assert len(server.audit.entries) == 3
