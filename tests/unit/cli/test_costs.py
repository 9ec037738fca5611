"""`costs`: what folders cost, by day, model, manifest and run."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from tests.unit.gallery.folder import row, write_rows

DAYS = ("2026-11-20T23:59:59.5Z", "2026-11-21T00:00:00Z", "2026-11-22T08:00:00.25Z")


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of three rows, of three days and two models; one of them is superseded."""
    folder = tmp_path / "jobs.out"
    folder.mkdir()
    costs = ((0.125, "pro"), (None, "nano"), (0.5, "pro"))
    write_rows(
        folder,
        *(
            row("robot", cost_usd=cost_usd, model=model, finished_at=at)
            for at, (cost_usd, model) in zip(DAYS, costs, strict=True)
        ),
    )
    return folder


def groups(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, tuple[int, float, int]]:
    """Return calls, cost and calls of unknown cost by the name of the group, and of all."""
    assert main(["costs", *arguments, "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    named = [*found["groups"], found["total"] | {"name": "total"}]
    return {each["name"]: (each["calls"], each["cost_usd"], each["unpriced"]) for each in named}


def runs(out: Path, *started: tuple[str, str]) -> None:
    """Write runs with their start and their manifest."""
    lines = [{"started_at": at, "manifest": manifest} for at, manifest in started]
    (out / "runs.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


@pytest.mark.usefixtures("out")
def test_costs_of_all_folders_here_by_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Superseded answers were paid for as well; what is of unknown cost is counted, never as 0."""
    assert groups(capsys) == {
        "2026-11-20": (1, 0.125, 0),
        "2026-11-21": (1, 0.0, 1),
        "2026-11-22": (1, 0.5, 0),
        "total": (3, 0.625, 1),
    }
    assert main(["costs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "2026-11-21 1 call 0 images $0.00 + 1 of unknown cost"
    assert lines[-1].split()[:3] == ["total", "3", "calls"]


def test_costs_by_model(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The model is the one that was called."""
    expected = {"pro": (2, 0.625, 0), "nano": (1, 0.0, 1), "total": (3, 0.625, 1)}
    assert groups(capsys, str(out), "--by", "model") == expected


def test_costs_by_run_and_manifest(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row is of the last run that had started; what is older than the first is of an unknown one."""
    runs(out, ("2026-11-22T08:00:00Z", "b.jsonl"), ("2026-11-21T00:00:00Z", "a.jsonl"))
    (out / "summary.json").write_bytes(b'{"started_at": "2026-11-22T08:00:00Z", "ended_at": "x"}')
    assert groups(capsys, "--by", "manifest") == {
        "unknown": (1, 0.125, 0),
        "a.jsonl": (1, 0.0, 1),
        "b.jsonl": (1, 0.5, 0),
        "total": (3, 0.625, 1),
    }
    by_run = groups(capsys, "--by", "run")
    assert by_run["2026-11-22T08:00:00Z  b.jsonl"] == (1, 0.5, 0)


def test_a_run_that_goes_on_is_a_run(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is in the summary, and not in the list yet."""
    runs(out, ("2026-11-20T00:00:00Z", "a.jsonl"))
    summary = {"started_at": "2026-11-22T00:00:00Z", "ended_at": None, "manifest": "b.jsonl"}
    (out / "summary.json").write_bytes(orjson.dumps(summary))
    assert groups(capsys, "--by", "manifest")["b.jsonl"] == (1, 0.5, 0)


@pytest.mark.parametrize(
    "damage",
    [{"finished_at": "yesterday"}, {"model": None}, {"model": ["pro"]}, {"finished_at": ""}],
)
@pytest.mark.parametrize("by", ["day", "model", "manifest", "run"])
def test_an_edited_row_is_counted_once(
    out: Path, capsys: pytest.CaptureFixture[str], damage: dict[str, Any], by: str
) -> None:
    """What a row does not say is unknown; its cost is in the sum."""
    write_rows(out, row("cat", cost_usd=1.0) | damage)
    assert groups(capsys, "--by", by)["total"] == (4, 1.625, 1)


def test_without_a_folder_it_says_what_to_name(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong place is no sum of nothing."""
    assert main(["costs"]) == 3
    assert "no folder here has a results.jsonl" in capsys.readouterr().err
    assert main(["costs", "elsewhere"]) == 3
    assert "elsewhere: has no results.jsonl" in capsys.readouterr().err
