"""Tokens by Application Default Credentials: google-auth's own protocols, against servers on loopback."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google.oauth2.credentials
import pytest
from aiohttp import web
from google.auth.compute_engine import _metadata

from gemini_batch.client import google_tokens
from gemini_batch.client.credentials import Token
from gemini_batch.client.google_tokens import GoogleTokens
from gemini_batch.records import Failure, FailureKind
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.loopback import logins
from tests.loopback.commands import ROOT, use_key_and_state
from tests.simulated import QUICK_START, simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """Vertex AI, with its login."""
    config = SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0, vertex=True)
    with simulator(config) as running:
        yield running


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True, raising=False)


async def fetched() -> Token | Failure:
    """Return what a run would get."""
    return await asyncio.to_thread(GoogleTokens())


def token() -> Token:
    """Return the token of this environment's login."""
    got = asyncio.run(fetched())
    assert isinstance(got, Token), got
    return got


def failure() -> Failure:
    """Return why there is none."""
    got = asyncio.run(fetched())
    assert isinstance(got, Failure)
    assert not got.may_be_billed
    return got


def use_users_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Send users, whose file names no address, to a server of ours."""
    monkeypatch.setattr(google.oauth2.credentials, "_GOOGLE_OAUTH2_TOKEN_ENDPOINT", url)


def test_a_service_account(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed assertion is exchanged for a token of an hour; no project pays but its own."""
    logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{server.base_url}/token"))

    got = token()

    assert got.headers["authorization"].startswith("Bearer ya29.")
    assert "x-goog-user-project" not in got.headers
    assert got.lifetime_s == pytest.approx(3600, abs=60)
    assert got.redactor.redact_text(got.headers["authorization"]) == "Bearer [key]"


def test_a_project_that_pays(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment's wins over that of the file, as for Google's own clients."""
    use_users_endpoint(monkeypatch, f"{server.base_url}/token")
    logins.log_in(monkeypatch, tmp_path, logins.user())
    assert token().headers["x-goog-user-project"] == "project-that-pays"
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "another-that-pays")
    assert token().headers["x-goog-user-project"] == "another-that-pays"


def test_a_user_of_gcloud(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file that `gcloud auth application-default login` writes is found without a variable; gcloud is not asked."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    use_users_endpoint(monkeypatch, f"{server.base_url}/token")
    path = logins.log_in(monkeypatch, tmp_path, logins.user())
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    assert failure().kind is FailureKind.LOGIN
    (tmp_path / ".config/gcloud").mkdir(parents=True)
    path.rename(tmp_path / ".config/gcloud/application_default_credentials.json")
    assert token().lifetime_s > 3000


def test_a_workload_identity(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof of another cloud is fetched, and exchanged; nobody is asked for the name of a project."""
    logins.log_in(monkeypatch, tmp_path, logins.workload(server.base_url))
    assert token().lifetime_s > 3000
    subject = tmp_path / "subject"
    subject.write_text("a-proof-in-a-file")
    logins.log_in(
        monkeypatch,
        tmp_path,
        logins.workload(server.base_url, credential_source={"file": str(subject)}),
    )
    assert token().lifetime_s > 3000


def test_a_service_account_by_impersonation(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token of another login allows to ask for that of the service account."""
    seen: list[str] = []

    async def generate(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response(
            {"accessToken": "ya29.impersonated-token", "expireTime": "2099-01-01T00:00:00Z"}
        )

    with logins.served(web.post("/v1/sa:generateAccessToken", generate)) as origin:
        impersonation = {"service_account_impersonation_url": f"{origin}/v1/sa:generateAccessToken"}
        logins.log_in(monkeypatch, tmp_path, logins.workload(server.base_url, **impersonation))
        assert token().headers["authorization"] == "Bearer ya29.impersonated-token"
    assert seen[0].startswith("Bearer ya29.")


def metadata(expires_in: int = 3599) -> list[web.RouteDef]:
    """Return the routes of a metadata server."""
    root = "/computeMetadata/v1"

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["Metadata-Flavor"] == "Google"
        headers = {"Metadata-Flavor": "Google"}
        if request.path.endswith("/token"):
            found: Any = {"access_token": "ya29.metadata", "expires_in": expires_in}
            return web.json_response(found, headers=headers)
        if request.path.endswith("/default/"):
            return web.json_response({"email": logins.EMAIL, "scopes": []}, headers=headers)
        return web.Response(text="my-project", headers=headers)

    return [web.get("/", answer), web.get(f"{root}/{{path:.*}}", answer)]


def test_a_machine_of_google_cloud(tmp_path: Path) -> None:
    """The metadata server is found, and asked directly, although a proxy is set."""
    # google-auth reads the variables when it is imported.
    script = (
        "import asyncio; from tests.loopback.test_google_tokens import fetched; "
        "print(asyncio.run(fetched()))"
    )
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:1")
    with logins.served(*metadata()) as origin:
        host = origin.removeprefix("http://")
        machine = {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host, "HOME": str(tmp_path)}
        quick = {name: os.environ[name] for name in QUICK_START}
        ended = subprocess.run(
            [sys.executable, "-c", script],
            env=machine | proxies | quick,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert "'authorization': 'Bearer ya29.metadata'" in ended.stdout, ended
    assert ended.stderr == ""


def test_the_metadata_servers_of_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Google's, Amazon's and Azure's are of the machine itself, and so is one that is named; others are not."""
    monkeypatch.setenv("GCE_METADATA_HOST", "gke-metadata:988")
    of_machine = ["metadata.google.internal", "169.254.169.254", "fd00:ec2::254", "gke-metadata"]
    others = ["metadata.google.internal.example.com", "10.0.0.1", "sts.googleapis.com", ""]
    assert [google_tokens._is_metadata(host) for host in of_machine + others] == [True] * 4 + [
        False
    ] * 4


REFUSED: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "revoked user": (logins.user(refresh_token="1//revoked-but-long-enough"), "invalid_grant"),
    "revoked account": ({"client_email": "revoked@x.iam.gserviceaccount.com"}, "invalid_grant"),
    "a key that is none": ({"private_key": "-----BEGIN PRIVATE KEY-----\nx\n"}, "login.json"),
    "no address": ({"token_uri": None}, "no Google Cloud login: "),
    "an unknown type": ({"type": "magic"}, "does not have a valid type"),
    "no JSON": (b"{", "is not a valid json file"),
    "a list": (b"[]", "login.json, or what its server answers, can't be used (AttributeError: "),
    "plain http elsewhere": (
        {"token_uri": "http://tokens.example.com/token"},
        "tokens.example.com is asked by plain http, which shows the login",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_login_that_is_refused(
    server: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A person has to act: it says what is wrong and what to do, and shows no secret."""
    file, said = REFUSED[name]
    url = f"{server.base_url}/token"
    use_users_endpoint(monkeypatch, url)
    if isinstance(file, bytes):
        logins.log_in(monkeypatch, tmp_path, {}).write_bytes(file)
    else:
        whole = {} if "refresh_token" in file else logins.service_account(url)
        logins.log_in(monkeypatch, tmp_path, whole | file)

    found = failure()

    assert found.kind is FailureKind.LOGIN
    assert said in found.message
    assert "`gcloud auth application-default login`" in found.message
    for secret in (*logins.private_key().splitlines()[1:-1], "1//revoked", logins.CLIENT_SECRET):
        assert secret not in found.message


def test_no_file_and_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any login it says so; a file that is not there, and a folder, are named."""
    assert "credentials were not found" in failure().message
    for path, said in (("/nowhere/a.json", "File /nowhere/a.json was not found"), ("/", "/: Is a")):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
        assert failure().kind is FailureKind.LOGIN
        assert said in failure().message


def test_a_server_that_repeats_what_it_got_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The assertion, and a user's tokens, are as good as a key."""
    got: list[str] = []

    async def echo(request: web.Request) -> web.Response:
        got.append(await request.text())
        form = await request.post()
        description = f"bad request: {dict(form)} {got[-1]}"
        return web.json_response(
            {"error": "invalid_request", "error_description": description}, status=400
        )

    with logins.served(web.post("/token", echo)) as origin:
        use_users_endpoint(monkeypatch, f"{origin}/token")
        logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{origin}/token"))
        said = failure().message
        logins.log_in(monkeypatch, tmp_path, logins.user())
        said += failure().message

    assert "invalid_request" in said
    assertion = got[0].partition("assertion=")[2].partition("&")[0]
    assert len(assertion) > 300
    for secret in (assertion, logins.REFRESH_TOKEN, logins.CLIENT_SECRET):
        assert secret not in said


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_server_that_fails_may_answer_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """As one that can't be reached: the run waits, and nobody has to act."""

    async def fail(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>Service Unavailable</html>")

    monkeypatch.setattr("time.sleep", lambda _s: None)  # the library's own tries
    with logins.served(web.post("/token", fail)) as origin:
        logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{origin}/token"))
        found = failure()

    assert found.kind is FailureKind.UNREACHABLE
    assert found.message == f"{origin} answers the login with {status}"


def test_a_server_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may come back; the address is named."""
    logins.log_in(monkeypatch, tmp_path, logins.service_account("http://127.0.0.1:1/token"))

    found = failure()

    assert found.kind is FailureKind.UNREACHABLE
    assert found.message == "no connection to http://127.0.0.1:1: Connection refused"


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No login takes longer than its time."""

    async def hang(_request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    monkeypatch.setattr(google_tokens, "_TIMEOUT_S", 0.05)
    with logins.served(web.post("/token", hang)) as origin:
        logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{origin}/token"))
        found = failure()

    assert found.kind is FailureKind.UNREACHABLE
    assert found.message == f"{origin} does not answer the login within 0.05 s"


def test_an_answer_that_makes_no_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A captive portal's page is no token, and no traceback."""
    replies = iter(
        [
            ("<html>Sign in</html>", 200),
            ('{"access_token": 5, "expires_in": "x"}', 200),
            ("[]", 200),
        ]
    )

    async def answer(_request: web.Request) -> web.Response:
        text, status = next(replies)
        return web.Response(text=text, status=status)

    with logins.served(web.post("/token", answer)) as origin:
        logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{origin}/token"))
        for _ in range(3):
            assert failure().kind is FailureKind.LOGIN
