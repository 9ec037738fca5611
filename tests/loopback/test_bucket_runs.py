"""Runs into real servers of buckets, and all that such a run prints and writes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output.bucket import acquiring
from gemini_batch.output.bucket.acquiring import acquire
from gemini_batch.simulator import Simulator, SimulatorConfig
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.opening import open_store
from tests.buckets import AWS_SECRET, AZURE_KEY, azure, moto
from tests.loopback.commands import manifest, run, use_key_and_state
from tests.loopback.test_buckets import use
from tests.simulated import simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]
JOBS = [{"id": f"a/n{number}", "prompt": f"Number {number}"} for number in range(12)]


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, str]]]:
    """The environments of both clouds, by scheme."""
    folder = tmp_path_factory.mktemp("clouds")
    with moto(folder) as s3, azure(folder) as az:
        yield {"s3": s3, "az": az}


@pytest.fixture
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0)) as running:
        yield running


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_key_and_state(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cloud(
    clouds: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Sets the environment of a cloud, with changes."""
    return lambda scheme, **changes: use(monkeypatch, clouds[scheme] | changes)


@pytest.mark.parametrize("scheme", ["s3", "az"])
def test_a_run_goes_on_from_the_bucket_alone(
    scheme: str,
    cloud: Callable[..., None],
    server: Simulator,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Half of it, the rest on an empty disk, and what others read; the cloud's secrets are in no output and no file."""
    cloud(scheme)
    path, out = manifest(tmp_path, *JOBS), f"{scheme}://pictures/{uuid4().hex}"
    assert run(path, server, "--out", out, "--scratch", "one", "--limit", "5") == 0
    assert run(path, server, "--out", out, "--scratch", "two", "--json") == 0
    assert orjson.loads(capfd.readouterr().out)["this_run"]["sent"] == 7
    assert main(["status", out, "--json"]) == 0
    assert orjson.loads(capfd.readouterr().out)["by_status"] == {"succeeded": 12}
    assert main(["verify", out]) == 0
    assert main(["export", out, "--to", "all.zip"]) == 0
    assert main(["gallery", out]) == 0
    captured = capfd.readouterr()
    shown = (captured.out + captured.err).encode()
    for secret in (AWS_SECRET, AZURE_KEY):
        for spelling in (secret, quote(secret, safe="")):
            assert spelling.encode() not in shown
            for file in tmp_path.rglob("*"):
                assert not file.is_file() or spelling.encode() not in file.read_bytes()


@pytest.mark.parametrize("scheme", ["s3", "az"])
def test_workers_of_another_number_go_on_from_the_bucket_alone(
    scheme: str,
    cloud: Callable[..., None],
    server: Simulator,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each with a disk of its own; what others read is one run, and a run without workers is refused."""
    cloud(scheme)
    path, out = manifest(tmp_path, *JOBS), f"{scheme}://pictures/{uuid4().hex}"
    for index in (1, 2):
        flags = ("--scratch", f"disk-{index}", "--shard", f"{index}/2", "--limit", "4")
        assert run(path, server, "--out", out, *flags) == 0
    assert run(path, server, "--out", out, "--scratch", "new", "--shard", "1/1", "--json") == 0
    assert orjson.loads(capfd.readouterr().out)["this_run"]["sent"] == 4
    assert main(["status", out, "--json"]) == 0
    assert orjson.loads(capfd.readouterr().out)["by_status"] == {"succeeded": 12}
    assert main(["verify", out]) == 0
    assert main(["gallery", out]) == 0
    assert run(path, server, "--out", out, "--scratch", "other") == 2
    assert "run with --shard 1/1 to continue" in capfd.readouterr().err


def test_a_bucket_that_another_run_holds_is_busy(
    cloud: Callable[..., None],
    server: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The second run sees the first renew its lease, and ends with 7 before it sends; once the first has ended, it runs."""
    cloud("s3")
    path, out = manifest(tmp_path, *JOBS[:2]), f"s3://pictures/{uuid4().hex}"
    held, _ = acquire(open_store(BucketAddress.parse(out)), "another", 0)
    monkeypatch.setattr(acquiring, "LOOK_S", 0.01)
    monkeypatch.setattr(acquiring, "sleep", lambda _seconds: held.renew())
    assert run(path, server, "--out", out) == 7
    assert "held by another run" in capsys.readouterr().err
    held.release(is_whole=True)
    assert run(path, server, "--out", out) == 0


@pytest.mark.parametrize(
    "case",
    [
        ("s3://nowhere/x", {}, "s3://nowhere/x: there is no such bucket"),
        ("az://nowhere/x", {}, "there is no such container"),
        (
            "az://pictures/x",
            {"AZURE_STORAGE_ACCOUNT_KEY": "d3JvbmcgYW5kIGxvbmc="},
            "access is denied",
        ),
        ("s3://pictures/x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://pictures/x"),
    ],
    ids=["bucket", "container", "key", "address"],
)
def test_a_bucket_that_can_not_be_used_ends_the_run_before_it_sends(
    case: tuple[str, dict[str, str], str],
    cloud: Callable[..., None],
    server: Simulator,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With 8, in one line, without a secret."""
    out, changes, told = case
    cloud(out[:2], **changes)
    path = manifest(tmp_path, *JOBS[:1])
    assert run(path, server, "--out", out) == 8
    text = capsys.readouterr().err
    assert told in text
    assert "Traceback" not in text
    for secret in (AWS_SECRET, AZURE_KEY, "d3JvbmcgYW5kIGxvbmc="):
        assert secret not in text
