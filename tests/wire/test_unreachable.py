"""Connections that are not made, and disks that fail."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from gemini_batch.errors import TOO_MANY_FILES, describe_os_error
from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
    IncomingImage,
)
from tests.wire.peers import (
    KEY,
    Images,
    Peer,
    Sink,
    always,
    patient,
    send,
    serving,
)


def unreachable(failure: Answer | Failure, base_url: str) -> None:
    """Check that nothing was sent, and that the message names the server."""
    assert isinstance(failure, Failure), failure
    assert (failure.kind, failure.may_be_billed) == (FailureKind.UNREACHABLE, False), failure
    assert failure.message.startswith(f"no connection to {base_url}")
    assert KEY not in failure.message


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port of 127.0.0.1 without a listener."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize("auth", ["header", "query"])
async def test_a_refused_connection_is_not_billed(closed_port: int, auth: str) -> None:
    """Without a listener, nothing was sent."""
    base_url = f"http://127.0.0.1:{closed_port}"

    unreachable(await send(base_url, auth=auth), base_url)


async def test_an_unknown_name_is_not_billed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the name can't be resolved, nothing was sent."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    unreachable(await send("https://api.test"), "https://api.test")


async def test_a_silent_name_server_counts_as_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name lookup is part of `connect_s`."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        await asyncio.get_running_loop().create_future()
        return []

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    async with asyncio.timeout(60):
        failure = await send("https://api.test", timeouts=patient(connect_s=0.02))

    expected = "no connection to https://api.test within 0.02 s"
    assert Failure(FailureKind.UNREACHABLE, expected, may_be_billed=False) == failure


async def test_tls_to_a_plain_port_is_not_billed() -> None:
    """If the TLS handshake fails, nothing was sent."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with serving(script) as server:
        base_url = server.base_url.replace("http:", "https:")
        unreachable(await send(base_url), base_url)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_too_many_open_files_are_not_an_outage(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that can't open a socket is the problem, not the server: waiting does not help."""

    async def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)

    failure = await send("https://api.test")

    assert Failure(FailureKind.STORAGE, TOO_MANY_FILES, may_be_billed=False) == failure


async def test_a_tls_handshake_that_hangs_counts_as_connecting() -> None:
    """The handshake is part of `connect_s`."""
    async with serving(Peer.hang) as server:
        base_url = server.base_url.replace("http:", "https:")
        async with asyncio.timeout(60):
            failure = await send(base_url, timeouts=patient(connect_s=0.03))

    expected = f"no connection to {base_url} within 0.03 s"
    assert Failure(FailureKind.UNREACHABLE, expected, may_be_billed=False) == failure


async def test_an_untrusted_certificate_is_not_billed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An invalid certificate ends the connection before the key is sent."""

    async def refuse(*_: object, sock: socket.socket, **__: object) -> Any:
        sock.close()
        raise ssl.SSLCertVerificationError(1, "self-signed certificate")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
    async with serving(Peer.hang) as server:
        base_url = server.base_url.replace("http:", "https:")
        failure = await send(base_url)

    assert isinstance(failure, Failure)
    assert (failure.kind, failure.may_be_billed) == (FailureKind.CERTIFICATE, False)
    assert "self-signed certificate" in failure.message
    assert "SSL_CERT_FILE" in failure.message


# --- the disk ---

DISK_ERRORS = [
    OSError(errno.ENOSPC, "No space left"),
    ConnectionResetError("NFS"),
    TimeoutError(errno.ETIMEDOUT, "NFS"),
]


class FullDisk(Images):
    """Images on a disk that fails in one call."""

    def __init__(self, place: str, error: OSError) -> None:
        super().__init__()
        self._place, self._error = place, error

    def _fail(self, place: str) -> None:
        if place == self._place:
            raise self._error

    def open_image(self, index: int, /) -> Sink:
        """Open a sink that fails."""
        self._fail("open")
        sink = super().open_image(index)
        sink.on_write = lambda: self._fail("write")
        sink.on_close = lambda: self._fail("close")
        return sink

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return what arrived, or fail."""
        self._fail("arrived")
        return super().arrived()


@pytest.mark.parametrize("place", ["open", "write", "close", "arrived"])
@pytest.mark.parametrize("error", DISK_ERRORS)
async def test_a_failing_disk_is_not_a_network_error(place: str, error: OSError) -> None:
    """An error of the disk is reported as one, even if it looks like one of the network."""
    async with serving(always) as server:
        failure = await send(server.base_url, images=FullDisk(place, error))

    expected = f"the answer can't be written: {describe_os_error(error)}"
    assert Failure(FailureKind.STORAGE, expected, may_be_billed=True) == failure
