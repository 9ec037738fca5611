"""Workers of one run on two machines, which share quota and budget in PostgreSQL."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemini_batch.output.rows import newest_rows
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.ledger.test_commands import Machine
from tests.postgres import Server
from tests.simulated import simulator

pytestmark = pytest.mark.slow


@pytest.fixture
def api() -> Iterator[Simulator]:
    """Return a simulated API."""
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0)) as server:
        yield server


def test_two_machines_share_one_budget(tmp_path: Path, api: Simulator, postgres: Server) -> None:
    """One output folder that both see, homes of their own: together they spend no more than `--max-cost`; a third one, with its own ledger, is refused."""
    machines = [Machine(tmp_path / name, api, postgres.url) for name in ("one", "two", "three")]
    machines[2].environment.pop("GEMINI_BATCH_LEDGER")
    out = str(tmp_path / "jobs.out")
    flags = ("--tier", "tier-3", "--out", out, "--max-cost", "1.5", "--run-id", "night")
    for number, machine in enumerate(machines[:2], start=1):
        machine.write(30)
        machine.do("run", "jobs.jsonl", "--shard", f"{number}/2", *flags, code=5)
    cost_usd = sum(row["cost_usd"] for row in newest_rows(Path(out)))
    assert 1.2 < cost_usd <= 1.5
    machines[2].write(30)
    said = machines[2].do("run", "jobs.jsonl", "--shard", "2/2", *flags, code=2)
    assert "--ledger" in said
    for number, machine in enumerate(machines[:2], start=1):
        again = ("--tier", "tier-3", "--out", out, "--shard", f"{number}/2")
        machine.do("run", "jobs.jsonl", *again)
    assert set(Counter(entry.prompt for entry in api.audit.entries).values()) == {30}
    assert len([*newest_rows(Path(out))]) == 30
