"""Servers that stand in for the clouds' buckets: moto for S3, azurite for Azure. They end with their block."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

# Public: azurite's own account (https://learn.microsoft.com/azure/storage/common/storage-use-azurite, 2026-11-30).
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
AWS_SECRET = "a-secret-access-key-that-must-never-be-seen"
NEEDED = "GEMINI_BATCH_NEEDS_BUCKETS"
_BOUND_S = 600  # no server outlives its tests by more


def azurite() -> str | None:
    """Return the program that stands in for Azure; None where it is missing."""
    return os.environ.get("GEMINI_BATCH_AZURITE") or shutil.which("azurite-blob")


def skip_without(found: object, what: str) -> None:
    """Skip a test whose server is missing, unless the environment says that none may be."""
    if not found and not os.environ.get(NEEDED):
        pytest.skip(f"needs {what}")
    assert found, f"{what} is missing, and {NEEDED} is set"


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: list[str], port: int, words: Path) -> Iterator[None]:
    with words.open("wb") as file:
        process = subprocess.Popen(
            ["timeout", str(_BOUND_S), *command], stdout=file, stderr=subprocess.STDOUT
        )
    try:
        ends_s = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, words.read_text()
                assert time.monotonic() < ends_s, f"{command}: does not start"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def moto(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment for a new S3 with the bucket `pictures`."""
    import importlib.util

    skip_without(importlib.util.find_spec("moto"), "moto[server]")
    skip_without(importlib.util.find_spec("obstore"), "obstore")
    port = _free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port, folder / "moto.log"):
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "an-access-key",
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            "AWS_REGION": "us-east-1",
        }
        make_bucket(environment)
        yield environment


def make_bucket(environment: dict[str, str], name: str = "pictures") -> None:
    """Make a bucket in moto."""
    import boto3

    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="a",
        aws_secret_access_key="b",
        region_name="us-east-1",
    ).create_bucket(Bucket=name)


@contextmanager
def azure(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment for a new Azure with the container `pictures`."""
    import importlib.util

    skip_without(azurite(), "azurite")
    skip_without(importlib.util.find_spec("obstore"), "obstore")
    port = _free_port()
    command = [
        azurite() or "",
        *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
    ]
    with _running(command, port, folder / "azurite.log"):
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
            "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
            "AZURE_ENDPOINT": f"http://127.0.0.1:{port}/devstoreaccount1",
            "AZURE_ALLOW_HTTP": "true",
        }
        _make_container(f"http://127.0.0.1:{port}", "pictures")
        yield environment


def _make_container(address: str, name: str) -> None:
    """Make a container in azurite: obstore can't, and the SDK is not worth one request."""
    import base64
    import hashlib
    import hmac
    import urllib.request
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-08-06"
    account = "devstoreaccount1"
    lines = ["PUT", *[""] * 11, f"x-ms-date:{date}", f"x-ms-version:{version}"]
    lines += [f"/{account}/{account}/{name}", "restype:container"]
    signature = hmac.digest(base64.b64decode(AZURE_KEY), "\n".join(lines).encode(), hashlib.sha256)
    request = urllib.request.Request(f"{address}/{account}/{name}?restype=container", method="PUT")
    request.add_header("x-ms-date", date)
    request.add_header("x-ms-version", version)
    request.add_header(
        "Authorization", f"SharedKey {account}:{base64.b64encode(signature).decode()}"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201
