"""Runs with the login of Google Cloud, against a Vertex AI and a token server on loopback."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.clock import Clock
from gemini_batch.config.run_config import RunConfig
from gemini_batch.records import Answer
from gemini_batch.simulator import Simulator, SimulatorConfig
from gemini_batch.simulator.client_command import client_command
from tests.builders import make_call
from tests.loopback import logins
from tests.loopback.commands import KEY, manifest, rows, use_key_and_state
from tests.simulated import simulator
from tests.wire.peers import Images

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

PREVIEW, PRO = "gemini-3-pro-image-preview", "gemini-3-pro-image"
VERTEX: dict[str, Any] = {"tier": "unlimited", "pixels": 16, "latency_s": 0.0, "vertex": True}


@pytest.fixture
def server() -> Iterator[Simulator]:
    """Vertex AI, with its login."""
    with simulator(SimulatorConfig(**VERTEX)) as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    # A server that can't be reached is tried for two minutes otherwise.
    monkeypatch.setattr("gemini_batch.engine.breaker.SERVER_GIVES_UP_AFTER_S", 0.0)


@pytest.fixture
def account(server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The key file of a service account, which is this environment's login."""
    file = logins.service_account(f"{server.base_url}/token")
    logins.log_in(monkeypatch, tmp_path, file)
    return file


def run(folder: Path, server: Simulator, *prompts: str, flags: tuple[str, ...] = ()) -> int:
    """Run these prompts on Vertex AI."""
    jobs = ({"id": f"r{number}", "prompt": prompt} for number, prompt in enumerate(prompts))
    pace = ("--rpm", "6000", "--rpd", "100000")
    return main(
        ["run", str(manifest(folder, *jobs)), "--vertex", "my-project",
         "--base-url", server.base_url, *pace, *flags]
    )  # fmt: skip


def shown(folder: Path, captured: Any) -> str:
    """Return all that a run wrote, but for the login itself."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "login.json")
    written = b"".join(path.read_bytes() for path in files).decode(errors="replace")
    return f"{written}{captured.out}{captured.err}"


def test_a_run_needs_no_key_and_shows_no_secret(
    tmp_path: Path, server: Simulator, account: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The model that is gone is replaced, faults are met, the key of the environment is said not to be used."""
    prompts = (
        "A cat",
        "A dog",
        "x [[fault:400]]",
        "x [[fault:not-json]]",
        "x [[fault:401-expired x1]]",
    )

    assert run(tmp_path, server, *prompts) == 4

    captured = capsys.readouterr()
    said, everything = captured.err, shown(tmp_path, captured)
    assert said.count("GEMINI_API_KEY is not used: --vertex sends with a Google Cloud login") == 1
    assert "Vertex AI has no such model at this location: Publisher Model" in said
    assert f"the run continues with its successor {PRO}" in said
    found = rows(tmp_path / "jobs.out")
    statuses = [row["status"] for row in sorted(found, key=lambda row: row["line"])]
    assert statuses == ["succeeded", "succeeded", "rejected", "failed", "succeeded"]
    assert {(row["model"], row["endpoint"]) for row in found} == {(PRO, server.base_url)}
    for secret in (KEY, *logins.secrets_of(server, account)):
        assert secret not in everything


@pytest.mark.usefixtures("account")
def test_an_expired_token_costs_no_attempt(tmp_path: Path, server: Simulator) -> None:
    """It is renewed, and the call is sent once more within its one attempt."""
    flags = ("--model", PRO, "--max-attempts", "1")

    assert run(tmp_path, server, "x [[fault:401-expired x1]]", flags=flags) == 0

    assert [entry.http_status for entry in server.audit.entries] == [401, 200]
    (row,) = rows(tmp_path / "jobs.out")
    assert (row["status"], row["attempts"]) == ("succeeded", 1)
    summary = orjson.loads((tmp_path / "jobs.out/summary.json").read_bytes())["this_run"]
    assert (summary["sent"], summary["retries"], summary["possibly_billed"]) == (1, 0, 0)


@pytest.mark.usefixtures("account")
def test_a_login_whose_tokens_are_never_accepted_stops(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once more and no further: exit 6, and the sentence speaks of the login."""
    flags = ("--model", PRO, "--concurrency", "1")

    assert run(tmp_path, server, *["x [[fault:401-expired]]"] * 3, flags=flags) == 6

    assert len(server.audit.entries) == 2
    said = capsys.readouterr().err
    assert "stopping: Vertex AI refused the login (401): Request had invalid" in said
    assert "gcloud auth application-default login" in said
    assert rows(tmp_path / "jobs.out") == []


async def test_a_token_that_is_over_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock goes ahead of ours by more than an hour: each call gets its answer."""
    async with Simulator(SimulatorConfig(**VERTEX)) as server:
        logins.log_in(monkeypatch, tmp_path, logins.workload(server.base_url))
        config = RunConfig(vertex="my-project", base_url=server.base_url).settings()
        call = make_call("a", model=PRO)
        statuses: list[int] = []
        async with InteractiveTransport(config, str(config.base_url), Clock()) as transport:
            for _ in range(3):
                answer = (await transport.send(call, Images())).answer
                assert isinstance(answer, Answer)
                statuses.append(answer.http_status)
                server.clock.advance(4000)

    assert statuses == [200, 200, 200]
    assert [entry.http_status for entry in server.audit.entries] == [200, 401, 200, 401, 200]


def test_a_login_that_is_refused_sends_nothing(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 6 with the reason `auth`, and a word about what to do; the day's quota is whole."""
    url = f"{server.base_url}/token"
    email = {"client_email": "revoked@my-project.iam.gserviceaccount.com"}
    file = logins.service_account(url, **email)
    logins.log_in(monkeypatch, tmp_path, file)

    assert run(tmp_path, server, "A cat", flags=("--json",)) == 6

    captured = capsys.readouterr()
    (stop,) = orjson.loads(captured.out)["stops"]
    assert stop["reason"] == "auth"
    assert (
        "no Google Cloud login: invalid_grant: Token has been expired or revoked" in stop["message"]
    )
    assert not server.audit.entries
    assert main(["quota", "--json"]) == 0
    limits = orjson.loads(capsys.readouterr().out)["quotas"][0]["limits"]
    assert next(each["used"] for each in limits if each["span"] == "a day") == 0
    assert not any(line in shown(tmp_path, captured) for line in file["private_key"].splitlines())


def test_a_token_server_that_is_not_there_is_an_outage(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 5: the next run may reach it, as with a server that can't be reached."""
    logins.log_in(monkeypatch, tmp_path, logins.service_account("http://127.0.0.1:1/token"))

    assert run(tmp_path, server, "A cat", flags=("--json",)) == 5

    (stop,) = orjson.loads(capsys.readouterr().out)["stops"]
    assert stop["reason"] == "outage"
    assert stop["message"].startswith("no connection to http://127.0.0.1:1: Connection refused")
    assert not server.audit.entries


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("403-disabled", "Vertex AI refused the login (403): Vertex AI API has not been used"),
        ("403-role", f"the role Vertex AI User (roles/aiplatform.user) allows {PRO}"),
        ("404", "some models are served at the location global alone"),
    ],
)
def test_what_a_project_does_not_allow(
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    said: str,
) -> None:
    """A person has to act, and reads where."""
    flags = ("--model", PRO)
    assert run(tmp_path, server, f"x [[fault:{fault}]]", flags=flags) == 6
    message = capsys.readouterr().err
    assert said.lower() in message.lower()
    assert "aistudio" not in message


def test_a_run_with_the_simulator_needs_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file, no library, no key: role, path and token are all the same."""
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setattr("gemini_batch.config.google_login.find_spec", lambda _name: None)
    path = manifest(tmp_path, {"id": "a", "prompt": "A cat"}, {"id": "b", "prompt": "A dog"})

    assert main(["run", str(path), "--simulate", "--vertex", "my-project", "--quiet"]) == 0

    assert {row["model"] for row in rows(tmp_path / "jobs.simulated")} == {PRO}
    assert main(["run", str(path), "--vertex", "my-project"]) == 3
    assert "pip install 'gemini_batch[vertex]'" in capsys.readouterr().err


@pytest.mark.usefixtures("account")
@pytest.mark.parametrize("tier", ["standard", "flex", "priority"])
def test_a_service_tier_goes_as_a_header(tmp_path: Path, server: Simulator, tier: str) -> None:
    """Next to the token; the kind of traffic that is served is the row's tier."""
    flags = ("--model", PRO, "--service-tier", tier, "--tier", "pay-as-you-go")

    assert run(tmp_path, server, "A cat [[fault:401-expired x1]]", flags=flags) == 0

    (row,) = rows(tmp_path / "jobs.out")
    assert row["service_tier"] == tier


def test_the_command_that_the_simulator_prints(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets the login that the server offers, and names project and address in variables."""
    url, file = server.base_url, tmp_path / "login.json"
    login, run_it = client_command(server.config, url).split(" && ")
    assert login == f"curl --silent --output simulator.json {url}/credentials.json"
    assert run_it.endswith(" python -m gemini_batch run jobs.jsonl --rpm 6000 --rpd 100000")
    for pair in run_it.split(" python ")[0].split():
        monkeypatch.setenv(*pair.split("=", 1))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with urllib.request.urlopen(f"{url}/credentials.json") as answer:
        file.write_bytes(answer.read())

    path = manifest(tmp_path, {"prompt": "A cat"})
    assert main(["run", str(path), *run_it.split(" jobs.jsonl ")[1].split()]) == 0

    (row,) = rows(tmp_path / "jobs.out")
    assert (row["status"], row["endpoint"]) == ("succeeded", url)


@pytest.mark.usefixtures("account")
def test_locations_of_one_server_pay_for_nothing_again(tmp_path: Path, server: Simulator) -> None:
    """Another location, and another project, are the same endpoint by the same address."""
    assert run(tmp_path, server, "A cat") == 0
    sent = len(server.audit.entries)
    for other in ("my-project/us-central1", "other-project/eu"):
        assert run(tmp_path, server, "A cat", flags=("--vertex", other)) == 0
    assert len(server.audit.entries) == sent


@pytest.mark.usefixtures("account")
def test_the_quota_is_that_of_project_and_location(
    tmp_path: Path, server: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named so, is shared by all logins, and can be reset by this name; a scope has its own."""
    run(tmp_path, server, "A cat", flags=("--model", PRO))
    run(tmp_path, server, "A dog", flags=("--model", PRO, "--vertex", "my-project/us-east1"))
    run(tmp_path, server, "A bee", flags=("--model", PRO, "--quota-scope", "team"))
    capsys.readouterr()

    assert main(["quota", "--json"]) == 0

    found = orjson.loads(capsys.readouterr().out)["quotas"]
    assert [each["project"] for each in found] == [
        "my-project/global",
        "my-project/us-east1",
        "team",
    ]
    assert main(["quota", "--reset", "--project", "my-project/us-east1"]) == 0
    assert f"{PRO} · {server.base_url} · my-project/us-east1" in capsys.readouterr().out
    assert main(["quota"]) == 0
    assert "us-east1" not in capsys.readouterr().out


@pytest.mark.usefixtures("account")
def test_the_doctor_shows_login_and_project(
    server: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And whether project and location let the login use the model; it sends no call and takes no key."""
    flags = ["doctor", "--vertex", "my-project/us-central1", "--base-url", server.base_url]

    assert main(flags) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        f"login         Google Cloud, from {tmp_path}/login.json",
        "project       my-project/us-central1",
        "note          GEMINI_API_KEY is not used: --vertex sends with a Google Cloud login",
    ]
    assert lines[-1] == f"model         {PRO} ({PREVIEW} is gone): the server knows it"
    assert not server.audit.entries
    assert main([*flags, "--model", "gemini-nano-banana-2.1", "--json"]) == 6
    found = orjson.loads(capsys.readouterr().out)
    assert (found["key"], found["vertex"]) == (None, "my-project/us-central1")
    assert "some models are served at the location global alone" in found["problem"]


def test_a_bug_does_not_tell_tokens_and_private_keys(
    tmp_path: Path,
    server: Simulator,
    account: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The report that a person is asked to send holds the traceback, but nothing that allows to send."""

    async def broken(
        _self: object, _call: object, _upload: object, _sink: object, allowed: Any
    ) -> Any:
        raise LookupError(f"{allowed} {account} {orjson.dumps(account).decode()}")

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(InteractiveTransport, "_exchange", broken)

    assert run(tmp_path, server, "A cat") == 1

    (report,) = tmp_path.glob("gemini_batch-bug-*.txt")
    assert "LookupError: " in report.read_text()
    everything = shown(tmp_path, capsys.readouterr())
    for secret in logins.secrets_of(server, account):
        assert secret not in everything
