"""No connection outlives the event loop that made it."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from gemini_batch.client.google_tokens import _Request
from gemini_batch.client.remote_images import RemoteImages
from gemini_batch.clock import Clock
from gemini_batch.config.network import trusted_certificates
from tests.wire.peers import Images, call, opened, whole


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with TLS that answers once, closes nothing, and reads no more."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    ended = threading.Event()

    def serve(listening: socket.socket) -> None:
        accepted, _ = listening.accept()
        with context.wrap_socket(accepted, server_side=True) as peer:
            peer.recv(1 << 16)
            peer.sendall(whole(b"{}", "Connection: close"))
            ended.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


async def draw(address: str) -> None:
    """Send a call."""
    async with opened(address) as transport:
        await transport.send(call(), Images())


async def fetch(address: str) -> None:
    """Fetch an image that an answer names."""
    sink = SimpleNamespace(write=lambda _: None, close=lambda: None)
    until_s = asyncio.get_running_loop().time() + 30
    async with RemoteImages(address, Clock(), trusted_certificates()) as images:
        await images.fetch(f"{address}/a.png", lambda: sink, until_s)


async def log_in(address: str) -> None:
    """Ask for a token."""
    request = _Request(asyncio.get_running_loop(), trusted_certificates())
    await asyncio.to_thread(request, f"{address}/token", "POST", b"")


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """Check that what became garbage meanwhile had been closed."""
    gc.collect()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(each.message) for each in seen if each.category is ResourceWarning] == []


@pytest.mark.parametrize("use", [draw, fetch, log_in])
def test_the_end_of_tls_is_not_left_to_the_peer(
    use: Callable[[str], Awaitable[None]], address: str
) -> None:
    """A connection that the library closed while the run went on is broken at its end."""

    async def used() -> None:
        async with asyncio.timeout(60):
            await use(address)

    with nothing_left_open():
        asyncio.run(used())
