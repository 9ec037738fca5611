"""The rows of a run, against the schema that is printed for them."""

import json
import shutil
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types of its own

from gemini_batch.cli import main
from gemini_batch.cli.schema import row_schema
from tests.loopback.commands import ROOT

JOBS = ROOT / "jobs"
ROW = Draft202012Validator(row_schema())


def test_every_row_of_a_run_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schema accepts rows with images, drafts, inputs, and every status of a run."""
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    shutil.copytree(JOBS / "inputs", tmp_path / "inputs")
    faults = ("safety", "400", "503", "drafts", "text-after", "usage-absent", "prompt-blocked")
    jobs = [
        *map(json.loads, (JOBS / "quickstart.jsonl").read_bytes().splitlines()),
        *({"id": name, "prompt": f"[[fault:{name}]]"} for name in faults),
    ]
    manifest = tmp_path / "jobs.jsonl"
    manifest.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    assert (
        main(
            ["run", str(manifest), "--simulate", "--rpm", "6000", "--max-attempts", "1", "--quiet"]
        )
        == 4
    )
    rows = [
        json.loads(line)
        for line in (tmp_path / "jobs.simulated/results.jsonl").read_bytes().splitlines()
    ]
    assert len(rows) == len(jobs)
    assert {row["status"] for row in rows} == {"succeeded", "blocked", "rejected", "failed"}
    assert [error.message for row in rows for error in ROW.iter_errors(row)] == []
    assert not ROW.is_valid(rows[0] | {"status": "done"})
    assert not ROW.is_valid({name: value for name, value in rows[0].items() if name != "endpoint"})
