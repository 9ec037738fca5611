"""Runs behind a forward proxy and with a certificate authority of one's own, both real."""

import asyncio
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
import trustme

import gemini_batch
from gemini_batch.cli import main
from gemini_batch.client.remote_images import RemoteImages
from gemini_batch.clock import Clock
from gemini_batch.config.network import trusted_certificates
from gemini_batch.records import FetchProblem, NotFetched
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.builders import png
from tests.loopback import logins
from tests.loopback.commands import KEY, ROOT, manifest, rows, use_key_and_state
from tests.simulated import simulator
from tests.unit.client.extracting import Null

pytestmark = pytest.mark.slow

HOST, PICTURES = "gemini.test", "pictures.test"  # known to the proxy alone
USER, PASSWORD = "me", "p@ss:word-of-the-proxy"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The certificate authority of the network."""
    return trustme.CA()


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running


@pytest.fixture(scope="module")
def vertex() -> Iterator[Simulator]:
    """Vertex AI, with its login."""
    config = SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0, vertex=True)
    with simulator(config) as running:
        yield running


@pytest.fixture(scope="module")
def addresses(
    server: Simulator, vertex: Simulator, authority: trustme.CA
) -> Iterator[tuple[str, str, str]]:
    """The addresses with TLS of the server, of an image elsewhere and of Vertex AI, by names that only the proxy knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, PICTURES).configure_cert(context)
    ports_behind = [int(each.base_url.rpartition(":")[2]) for each in (server, vertex)]
    loop, ready, ports = asyncio.new_event_loop(), threading.Event(), list[int]()
    ended = asyncio.Event()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own: bytes) -> None:
        # The simulator answers only to its own host.
        named = [f"Host: {HOST}:{port}".encode() for port in ports]
        try:
            while data := await reader.read(1 << 16):
                for each in named:
                    data = data.replace(each, own)
                writer.write(data)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        writer.close()

    async def serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own = f"Host: 127.0.0.1:{port}".encode()
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, behind_writer, own), copy(behind_reader, writer, own))

    async def draw(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        image = png("far away")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(image) + image)
        await writer.drain()
        writer.close()

    async def front() -> None:
        listening = [
            await asyncio.start_server(each, "127.0.0.1", 0, ssl=context)
            for each in (partial(serve, ports_behind[0]), draw, partial(serve, ports_behind[1]))
        ]
        ports.extend(each.sockets[0].getsockname()[1] for each in listening)
        ready.set()
        await ended.wait()
        for each in listening:
            each.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(front(),))
    thread.start()
    assert ready.wait(10)
    yield (
        f"https://{HOST}:{ports[0]}",
        f"https://{PICTURES}:{ports[1]}/a.png",
        f"https://{HOST}:{ports[2]}",
    )
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


@pytest.fixture
def address(addresses: tuple[str, str, str]) -> str:
    """The server's address."""
    return addresses[0]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The host and port of a forward proxy that asks for a password."""
    folder = tmp_path_factory.mktemp("proxy")
    port_file, log = folder / "port", (folder / "log").open("wb")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"),
            *("--port-file", str(port_file), "--num-workers", "1", "--num-acceptors", "1"),
            *("--plugins", "tests.loopback.proxy_resolver.Resolver"),
            *("--basic-auth", f"{USER}:{PASSWORD}"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(folder)},
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    pause = threading.Event()
    for _ in range(1_000):
        if port_file.exists() and port_file.read_text():
            break
        assert process.poll() is None, (folder / "log").read_text()
        pause.wait(0.02)
    yield f"127.0.0.1:{int(port_file.read_text())}"
    process.terminate()
    process.wait(10)
    log.close()


@pytest.fixture(autouse=True)
def network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str, authority: trustme.CA
) -> None:
    """The environment of somebody in this network."""
    use_key_and_state(monkeypatch, tmp_path)
    for name in ("NO_PROXY", "no_proxy", "https_proxy", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}:p%40ss%3Aword-of-the-proxy@{proxy}")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    # A server that can't be reached is tried for two minutes otherwise.
    monkeypatch.setattr("gemini_batch.engine.breaker.SERVER_GIVES_UP_AFTER_S", 0.0)


def run(folder: Path, address: str, *flags: str) -> int:
    """Run a manifest of two robots."""
    path = manifest(folder, *({"id": each, "prompt": f"A robot {each}"} for each in "ab"))
    return main(["run", str(path), "--base-url", address, "--rpm", "6000", "--json", *flags])


def seen(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Return what a run wrote to stderr, and the reasons of its stops; the secrets are nowhere."""
    printed = capsys.readouterr()
    written = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    everything = b"".join(written).decode(errors="replace") + printed.out + printed.err
    for secret in (KEY, PASSWORD, "p%40ss", "p@ss"):
        assert secret not in everything
    stops = orjson.loads(printed.out)["stops"]
    return " ".join(stop["message"] for stop in stops), ",".join(stop["reason"] for stop in stops)


def test_a_run_through_the_proxy(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name is known to the proxy alone, and its certificate is signed by the network's own authority."""
    assert run(tmp_path, address) == 0

    assert seen(tmp_path, capsys) == ("", "")
    assert [row["status"] for row in rows(tmp_path / "jobs.out")] == ["succeeded"] * 2


def test_a_login_goes_the_same_way(
    tmp_path: Path,
    addresses: tuple[str, str, str],
    vertex: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Through the proxy with its password, and with the certificate of the network's own authority."""
    address = addresses[2]
    logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{address}/token"))

    assert run(tmp_path, address, "--vertex", "my-project") == 0

    assert seen(tmp_path, capsys) == ("", "")
    assert {entry.http_status for entry in vertex.audit.entries} == {
        200,
        404,
    }  # the preview is gone
    assert len(logins.tokens_of(vertex)) == 1


@pytest.mark.parametrize(
    ("variable", "value", "code", "reason", "said"),
    [
        ("SSL_CERT_FILE", "other.pem", 6, "certificate", "name it in SSL_CERT_FILE"),
        ("HTTPS_PROXY", "http://me:wrong-pass@{proxy}", 6, "proxy", "refuses to connect to https:"),
        ("HTTPS_PROXY", "http://127.0.0.1:1", 5, "outage", "proxy 127.0.0.1:1 that HTTPS_PROXY names"),
    ],
)  # fmt: skip
def test_a_login_whose_way_is_barred_says_so(  # noqa: PLR0917 # fixtures and a table
    tmp_path: Path,
    addresses: tuple[str, str, str],
    proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    code: int,
    reason: str,
    said: str,
) -> None:
    """As of the requests themselves: it is no refusal of the login."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    is_file = value.endswith(".pem")
    monkeypatch.setenv(variable, str(tmp_path / value) if is_file else value.format(proxy=proxy))
    logins.log_in(monkeypatch, tmp_path, logins.service_account(f"{addresses[2]}/token"))

    assert run(tmp_path, addresses[2], "--vertex", "my-project") == code

    message, reasons = seen(tmp_path, capsys)
    assert reasons == reason
    assert said in message
    assert addresses[2] in message or reason == "outage"
    assert "gcloud" not in message


def test_the_certificates_of_requests_count_as_well(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE is what most Python programs of a company are told."""
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))

    assert run(tmp_path, address) == 0


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each reading of certificates was on an event loop."""
    found: list[bool] = []
    read = ssl.create_default_context

    def noted() -> ssl.SSLContext:
        found.append(asyncio._get_running_loop() is not None)
        return read()

    monkeypatch.setattr(ssl, "create_default_context", noted)
    return found


def test_certificates_are_read_once(tmp_path: Path, address: str, readings: list[bool]) -> None:
    """A bundle of a company takes a moment, and no answer waits for it."""
    assert run(tmp_path, address) == 0
    assert readings == [False]


def test_a_file_without_certificates_stops_only_a_run_that_sends(
    tmp_path: Path, address: str, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent then, and a run with nothing to do ends as it would without the file."""
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_DIR", str(tmp_path / "gone"))
        before = len(server.audit.entries)
        assert run(tmp_path, address) == 3
        assert len(server.audit.entries) == before
    assert run(tmp_path, address) == 0
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "gone"))
    assert run(tmp_path, address) == 0


async def test_certificates_are_read_once_from_python(
    tmp_path: Path, address: str, readings: list[bool]
) -> None:
    """The caller's event loop does not wait for them."""
    jobs = [gemini_batch.Job(id="a", prompt="A robot")]
    config = gemini_batch.RunConfig(base_url=address, out=tmp_path / "out", rpm=6000)
    assert (await gemini_batch.run(jobs, config)).exit_code == 0
    assert readings == [False]


async def test_no_certificate_is_read_for_an_image_elsewhere(
    addresses: tuple[str, str], readings: list[bool]
) -> None:
    """Those of the run are used, also by the first image that is fetched."""
    certificates = trusted_certificates()
    readings.clear()
    for session in (None, certificates):
        async with RemoteImages(addresses[0], Clock(), session) as images:
            await images.fetch(addresses[1], Null, asyncio.get_running_loop().time() + 30)
    assert not readings


def test_a_certificate_that_is_not_trusted_stops_at_once(
    tmp_path: Path,
    address: str,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No key leaves, the run does not wait, and SSL_CERT_FILE is named, also where it is set."""
    before = len(server.audit.entries)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))

    assert run(tmp_path, address) == 6

    message, reason = seen(tmp_path, capsys)
    assert reason == "certificate"
    assert "name it in SSL_CERT_FILE" in message
    assert len(server.audit.entries) == before
    assert rows(tmp_path / "jobs.out") == []


def test_a_proxy_that_refuses_is_named(
    tmp_path: Path,
    address: str,
    proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A wrong password stops the run; the message has the variable and the proxy's host, not what is in it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{USER}:p%40ss-that-is-wrong@{proxy}")

    assert run(tmp_path, address) == 6

    message, reason = seen(tmp_path, capsys)
    assert reason == "proxy"
    assert f"the proxy {proxy} that HTTPS_PROXY names refuses to connect" in message
    assert "407" in message
    assert "--base-url" not in message


def test_a_proxy_that_is_not_there_is_named(
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It may come back: the run is to be run again."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    assert run(tmp_path, address) == 5

    message, reason = seen(tmp_path, capsys)
    assert reason == "outage"
    assert (
        "no connection to the proxy 127.0.0.1:1 that HTTPS_PROXY names: Connection refused"
        in message
    )


def test_this_machine_is_reached_without_the_proxy(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target on loopback goes direct, also with a proxy for all schemes."""
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    assert run(tmp_path, server.base_url) == 0


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("HTTPS_PROXY=", "no proxy is set (HTTPS_PROXY)"),
        ("NO_PROXY=.test", "HTTPS_PROXY is set, and not used for this host (NO_PROXY)"),
    ],
)
def test_a_name_that_is_not_known_says_whether_a_proxy_is_set(  # noqa: PLR0917 # fixtures
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    said: str,
) -> None:
    """Only the proxy knows the name: without it, the message says why it was not asked."""
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)

    assert run(tmp_path, address) == 5

    assert said in seen(tmp_path, capsys)[0]


async def fetched(base_url: str, uri: str) -> NotFetched | bytes:
    """Return the image that an answer of this server names by a URI."""
    image = bytearray()
    sink = SimpleNamespace(write=image.extend, close=lambda: None)
    until_s = asyncio.get_running_loop().time() + 30
    async with RemoteImages(base_url, Clock(), trusted_certificates()) as images:
        return await images.fetch(uri, lambda: sink, until_s) or bytes(image)


async def test_an_image_elsewhere_comes_through_the_proxy(addresses: tuple[str, str, str]) -> None:
    """Its name is looked up by the proxy alone."""
    assert await fetched(*addresses[:2]) == png("far away")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.1", "[::1]", "169.254.169.254"])
async def test_the_proxy_is_not_asked_for_an_address_of_ones_own(host: str) -> None:
    """A host is checked as it is written, for the address is the proxy's to find."""
    found = await fetched("https://gemini.test", f"https://{host}/a.png")

    assert isinstance(found, NotFetched)
    assert found.problem is FetchProblem.REFUSED
    assert "not public" in found.message
