"""Runs of tables, from the command line and from Python, against the simulator."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemini_batch import ManifestError, RunConfig, run, stream
from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback import commands
from tests.unit.manifest.tables import as_csv

pytestmark = pytest.mark.loopback

JOBS: list[dict[str, Any]] = [
    {"id": "robot", "prompt": "A robot,\nwaving", "seed": 7, "metadata": {"sku": "A"}},
    {"prompt": "An owl", "temperature": 1, "modalities": ["TEXT", "IMAGE"], "variants": 2},
    {"prompt": " A fox ", "aspect_ratio": "16:9"},
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands.use_key_and_state(monkeypatch, tmp_path)


def test_a_move_from_csv_to_jsonl_pays_nothing_again(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calls of a table are those of the same jobs as JSONL, and rows have the line of the table."""
    (tmp_path / "jobs.csv").write_bytes(as_csv(JOBS).encode("utf-16"))
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, JOBS)))
    assert commands.run(tmp_path / "jobs.csv", server) == 0
    lines = sorted((row["line"], row["prompt"]) for row in commands.rows(tmp_path / "jobs.out"))
    assert lines == [(2, "A robot,\nwaving"), (4, "An owl"), (4, "An owl"), (5, " A fox ")]
    assert commands.run(tmp_path / "jobs.jsonl", server) == 0
    assert "nothing to do: all 4 calls are done" in capsys.readouterr().err
    assert len(server.audit.entries) == 4


async def test_python_takes_a_table(tmp_path: Path) -> None:
    """`run` and `stream` take its path; problems have its lines."""
    path = tmp_path / "jobs.csv"
    path.write_text("id;prompt\na;A robot\nb;An owl\n")
    config = RunConfig(simulate=True, rpm=6000)
    rows = [row async for row in stream(path, config)]
    assert sorted((row.id, row.line) for row in rows) == [("a", 2), ("b", 3)]
    summary = await run(str(path), config)
    assert (summary.calls, summary.left, summary.manifest) == (2, 0, str(path))
    path.write_text("id;promt\n")
    with pytest.raises(ManifestError, match=r"jobs\.csv:1: promt: no such field; did you mean"):
        await run(path, config)


def test_a_table_that_is_wrong_sends_nothing(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """One wrong row of many is exit 3."""
    (tmp_path / "jobs.csv").write_text("id,prompt,seed\na,x,1\nb,y,?\n")
    path = tmp_path / "jobs.csv"
    assert commands.run(path, server) == 3
    said = f'gemini-batch: {path}:3: seed: got "?"; must be a whole number\n'
    assert capsys.readouterr().err == said
    assert main(["plan", str(path)]) == 3
    assert not server.audit.entries
