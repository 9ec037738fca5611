"""Files of Google Cloud logins whose servers are on loopback, and a metadata server."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gemini_batch.config import google_login
from gemini_batch.simulator import Simulator

EMAIL = "runner@my-project.iam.gserviceaccount.com"
REFRESH_TOKEN, CLIENT_SECRET = "1//refresh-token-that-nobody-may-see", "client-secret-of-a-user"


@cache
def private_key() -> str:
    """Return the private key of the service account."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, kind, serialization.NoEncryption()).decode()


def service_account(token_url: str, **changes: Any) -> dict[str, Any]:
    """Return the key file of a service account."""
    return {
        "type": "service_account",
        "project_id": "my-project",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": EMAIL,
        "client_id": "1",
        "token_uri": token_url,
    } | changes


def user(**changes: Any) -> dict[str, Any]:
    """Return the file that gcloud writes for a user."""
    return {
        "type": "authorized_user",
        "client_id": "a-user.apps.googleusercontent.com",
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "quota_project_id": "project-that-pays",
    } | changes


def workload(origin: str, **changes: Any) -> dict[str, Any]:
    """Return the file of a workload identity."""
    pool = "projects/1/locations/global/workloadIdentityPools/p/providers/p"
    return {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{pool}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{origin}/token",
        "credential_source": {"url": f"{origin}/subject-token"},
    } | changes


def log_in(monkeypatch: pytest.MonkeyPatch, folder: Path, file: dict[str, Any]) -> Path:
    """Make a file the login of this environment."""
    path = folder / "login.json"
    path.write_bytes(orjson.dumps(file))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


def tokens_of(server: Simulator) -> list[str]:
    """Return all tokens that a simulator issued: one at least."""
    assert server._login is not None
    tokens = list(server._login._ends_at_s)
    assert tokens
    return tokens


def secrets_of(server: Simulator, file: dict[str, Any]) -> list[str]:
    """Return all tokens that a simulator issued, and the secrets of a login."""
    return [*tokens_of(server), *google_login.secrets_of(file)]


@contextmanager
def served(*routes: web.RouteDef) -> Iterator[str]:
    """Serve these routes from a thread; yield the address."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    addresses: list[str] = []

    async def serve() -> None:
        app = web.Application()
        app.add_routes(routes)
        runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        addresses.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
