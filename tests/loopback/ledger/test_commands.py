"""Commands on a ledger in PostgreSQL: runs on two machines, `quota`, `doctor` and `plan`."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback.commands import KEY, ROOT
from tests.postgres import Server
from tests.simulated import QUICK_START, simulator

pytestmark = pytest.mark.slow

PASSWORD = "pass-word-that-must-never-be-seen"


@pytest.fixture(scope="module")
def api() -> Iterator[Simulator]:
    """Return a simulated API."""
    config = SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0, requests_per_day=100)
    with simulator(config) as server:
        yield server


class Machine:
    """A home and a state folder of its own, in which commands run."""

    def __init__(self, home: Path, api: Simulator, ledger: str) -> None:
        home.mkdir()
        self.home = home
        kept = {name: os.environ[name] for name in QUICK_START if name in os.environ}
        self.environment = kept | {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "GEMINI_API_KEY": KEY,
            "GEMINI_BATCH_BASE_URL": api.base_url,
            "GEMINI_BATCH_LEDGER": ledger,
        }

    def write(self, jobs: int) -> None:
        """Write the manifest `jobs.jsonl`."""
        lines = [orjson.dumps({"id": f"robot-{number}", "prompt": "A"}) for number in range(jobs)]
        (self.home / "jobs.jsonl").write_bytes(b"\n".join(lines))

    def do(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a command; return all that it prints."""
        ended = subprocess.run(
            [sys.executable, "-m", "gemini_batch", *arguments],
            cwd=self.home,
            env={"PYTHONPATH": str(ROOT)} | self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout


@pytest.fixture
def machines(tmp_path: Path, api: Simulator, postgres: Server) -> tuple[Machine, Machine]:
    """Return two machines that share the ledger."""
    return tuple(Machine(tmp_path / name, api, postgres.url) for name in ("one", "two"))  # type: ignore[return-value]


def test_two_machines_share_a_day(machines: tuple[Machine, Machine], postgres: Server) -> None:
    """The day's quota that one machine has used is gone for the other; `quota` shows it on both."""
    one, two = machines
    for machine, jobs in ((one, 4), (two, 5)):
        machine.write(jobs)
    one.do("run", "jobs.jsonl", "--rpd", "6", "--quiet")
    ended = two.do("run", "jobs.jsonl", "--rpd", "6", "--json", "--quiet", code=5)

    assert '"day_closed"' in ended
    for machine in machines:
        assert "6 requests a day" in (shown := machine.do("quota"))
        assert " 6 used " in shown
        found = orjson.loads(machine.do("quota", "--json"))
        assert (found["ledger"], len(found["quotas"])) == (postgres.url, 1)
    assert not list(one.home.rglob("quota.sqlite"))


def test_reset_is_of_one_project_at_one_server(
    machines: tuple[Machine, Machine], postgres: Server
) -> None:
    """Without a project it is that of the key; what others count stays."""
    one, two = machines
    for machine in machines:
        machine.write(1)
    one.do("run", "jobs.jsonl", "--quiet")
    two.do("run", "jobs.jsonl", "--quiet", GEMINI_API_KEY=KEY.replace("000", "111"))
    postgres.execute(
        "INSERT INTO gemini_batch_ledger SELECT 'https://other', project, model, version, state "
        "FROM gemini_batch_ledger"
    )
    assert len(orjson.loads(one.do("quota", "--json"))["quotas"]) == 4

    assert one.do("quota", "--reset").count(" · ") == 2
    assert len(orjson.loads(one.do("quota", "--json"))["quotas"]) == 3
    assert one.do("quota", "--reset").startswith("nothing to delete; ")
    one.do("quota", "--reset", code=6, GEMINI_API_KEY="")


def test_doctor_checks_the_ledger(machines: tuple[Machine, Machine], postgres: Server) -> None:
    """It names the ledger, and what is wrong with it, and exits with 6 then."""
    one, _ = machines
    assert f"ledger        {postgres.url}\n" in one.do("doctor")

    wrong = postgres.url.replace("/postgres", "/none").replace("gb@", f"gb:{PASSWORD}@")
    shown = one.do("doctor", code=6, GEMINI_BATCH_LEDGER=wrong)
    assert 'database "none" does not exist' in shown
    assert PASSWORD not in shown
    found = orjson.loads(one.do("doctor", "--json", code=6, GEMINI_BATCH_LEDGER=wrong))
    assert "does not exist" in found["ledger_problem"]


def test_plan_and_status_ask_no_server(machines: tuple[Machine, Machine]) -> None:
    """They work while the ledger is away."""
    one, _ = machines
    one.write(2)
    one.do("run", "jobs.jsonl", "--quiet")

    gone = "postgresql://127.0.0.1:9/none"
    assert "2 done" in one.do("plan", "jobs.jsonl", GEMINI_BATCH_LEDGER=gone)
    assert "2  succeeded" in one.do("status", "jobs.out", GEMINI_BATCH_LEDGER=gone)
    one.do("run", "jobs.jsonl", "--quiet", GEMINI_BATCH_LEDGER=gone)


def test_password_is_nowhere(machines: tuple[Machine, Machine], postgres: Server) -> None:
    """A role with a password works from the environment; no output, row, state or list has it."""
    one, _ = machines
    one.write(2)
    postgres.execute("DROP ROLE IF EXISTS worker")
    postgres.execute(f"CREATE ROLE worker LOGIN PASSWORD '{PASSWORD}'")
    postgres.execute("GRANT CREATE ON SCHEMA public TO worker")
    hba = postgres.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text(f"host all worker 127.0.0.1/32 scram-sha-256\n{before}")
    postgres.execute("SELECT pg_reload_conf()")
    url = postgres.url.replace("gb@", f"worker:{PASSWORD}@")
    try:
        shown = [
            one.do("run", "jobs.jsonl", "--log-format", "json", GEMINI_BATCH_LEDGER=url),
            one.do("quota", GEMINI_BATCH_LEDGER=url),
            one.do("doctor", GEMINI_BATCH_LEDGER=url),
            one.do("quota", "--ledger", url, code=2),
            one.do("run", "jobs.jsonl", "--ledger", url, "--log-format", "json", code=2),
            one.do("quota", code=3, GEMINI_BATCH_LEDGER=url.replace(PASSWORD, f"{PASSWORD}x")),
        ]
        assert "password authentication failed" in shown[-1]
        (one.home / "pgpass").write_text(f"*:*:*:worker:{PASSWORD}\n")
        (one.home / "pgpass").chmod(0o600)
        plain = postgres.url.replace("gb@", "worker@")
        shown.append(one.do("quota", "--ledger", plain, PGPASSFILE=str(one.home / "pgpass")))
        (one.home / "pgpass").unlink()
    finally:
        hba.write_text(before)
        postgres.execute("SELECT pg_reload_conf()")
        postgres.execute("DROP OWNED BY worker")
        postgres.execute("DROP ROLE worker")

    assert PASSWORD not in "".join(shown)
    for file in one.home.rglob("*"):
        assert file.is_dir() or PASSWORD.encode() not in file.read_bytes()
    rows = postgres.execute("SELECT application_name FROM pg_stat_activity")
    assert PASSWORD not in str(rows)
