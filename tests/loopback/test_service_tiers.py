"""Service tiers and searches from the command line, against the simulator."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.commands import manifest, rows, run, use_key_and_state

pytestmark = pytest.mark.loopback

PRO, LITE = "gemini-3-pro-image", "gemini-3.1-flash-lite-image"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)


def raw(prompt: str, **fields: Any) -> dict[str, Any]:
    """Return a job with a raw request."""
    return {"request": {"contents": [{"parts": [{"text": prompt}]}], **fields}}


def test_flex_costs_half_and_is_paid_for_once(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Plan, rows, summary and status say what it is; another tier sends nothing again."""
    jobs = [
        {"id": "a", "prompt": "A cat"},
        {"id": "b", "prompt": "A dog", "service_tier": "standard"},
    ]
    path = manifest(tmp_path, *jobs)
    flags = ["--model", PRO, "--base-url", server.base_url]
    assert main(["plan", str(path), *flags, "--service-tier", "flex", "--json"]) == 0
    planned = orjson.loads(capsys.readouterr().out)
    assert [(each["model"], each["service_tier"], each["calls"]) for each in planned["models"]] == [
        (PRO, "standard", 1),
        (PRO, "flex", 1),
    ]
    standard_usd, flex_usd = (each["cost_usd"] for each in planned["models"])
    assert flex_usd == pytest.approx(standard_usd / 2)
    assert main(["plan", str(path), *flags, "--service-tier", "flex"]) == 0
    assert f"       1  {PRO} (flex)  1K  $0.069\n" in capsys.readouterr().out

    assert run(path, server, "--model", PRO, "--service-tier", "flex") == 0
    capsys.readouterr()
    found = {row["id"]: row for row in rows(tmp_path / "jobs.out")}
    assert [(found[name]["service_tier"], found[name]["model"]) for name in "ab"] == [
        ("flex", PRO),
        ("standard", PRO),
    ]
    assert 0.067 <= found["a"]["cost_usd"] <= 0.0705
    assert 0.134 <= found["b"]["cost_usd"] <= 0.141
    summary = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())
    assert summary["this_run"]["service_tiers"] == {"flex": 1, "standard": 1}
    assert main(["status", str(tmp_path / "jobs.out")]) == 0
    assert "       1  served as flex\n" in capsys.readouterr().out
    for tier in ("priority", "standard"):
        assert run(path, server, "--model", PRO, "--service-tier", tier) == 0
    assert len(server.audit.entries) == 2


def test_what_a_model_does_not_have_is_refused(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flex on Flash-Lite, priority without a price, and a tier that is none: exit 3, and nothing is sent."""
    path = manifest(tmp_path, {"id": "a", "prompt": "A cat"})
    assert run(path, server, "--model", LITE, "--service-tier", "flex") == 3
    assert (
        f'jobs.jsonl:1: service_tier: got "flex", which {LITE} does not have: choose another model'
        in capsys.readouterr().err
    )
    assert run(path, server, "--model", LITE, "--service-tier", "priority") == 3
    assert f'[prices."{LITE}"]' in capsys.readouterr().err
    path = manifest(tmp_path, raw("A cat", serviceTier="gold"))
    assert run(path, server) == 3
    assert (
        'request.serviceTier: got "gold"; allowed: standard, flex, priority, unspecified\n'
        in capsys.readouterr().err
    )
    assert not server.audit.entries


def test_nothing_passes_a_budget(tmp_path: Path, server: Simulator) -> None:
    """Raw priority, searches, flex served as standard, no tier named and a usage of zero, in one manifest."""
    kinds = [
        raw("A cat", serviceTier="priority"),
        raw("A cat", tools=[{"googleSearch": {}}]),
        raw("A cat [[fault:tier-standard]]", service_tier="flex"),
        raw("A cat [[fault:tier-absent]]", service_tier="flex"),
        raw("A cat [[fault:tier-absent]]", serviceTier="priority"),
        raw("A cat [[fault:usage-zero]]", serviceTier="flex"),
        raw("A cat [[fault:usage-zero]]", serviceTier="priority"),
    ]
    path = manifest(
        tmp_path, *({"id": f"k{n}", **kind, "variants": 5} for n, kind in enumerate(kinds))
    )
    assert run(path, server, "--max-cost", "3.5") == 5
    found = rows(tmp_path / "jobs.out")
    # What each of them really costs: the picture by its tier, its searches, and at most $0.0076 more of thinking.
    least_usd = {
        "k0": 0.2419,
        "k1": 0.1484,
        "k2": 0.1344,
        "k3": 0.1344,
        "k4": 0.2419,
        "k5": 0.0672,
        "k6": 0.2419,
    }
    for row in found:
        kind = row["id"].partition(".")[0]
        most_usd = least_usd[kind] + 1.8 * 0.0076 + 2 * 0.014 * (kind == "k1")
        assert least_usd[kind] <= row["cost_usd"] <= most_usd, row["id"]
    assert {row["service_tier"] for row in found} >= {"priority", "standard"}
    assert 2.9 < sum(row["cost_usd"] for row in found) <= 3.5


def test_priority_says_who_has_it(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Google's page gives it to two tiers only: others are told, before anything is sent, and not refused."""
    path = manifest(tmp_path, {"id": "a", "prompt": "A cat", "service_tier": "priority"})
    said = "priority is for tier-2 and tier-3: with --tier free the API may serve standard"
    assert main(["plan", str(path), "--base-url", server.base_url]) == 0
    assert said in capsys.readouterr().out
    assert main(["plan", str(path), "--base-url", server.base_url, "--tier", "tier-2"]) == 0
    assert "priority is for" not in capsys.readouterr().out
    assert run(path, server) == 0
    assert said in capsys.readouterr().err
    assert rows(tmp_path / "jobs.out")[0]["service_tier"] == "priority"
