import socket
from collections.abc import Mapping

import pytest

from tests.loopback.simulator.client import Caller, SetTime, calling

JSON = {"Content-Type": "application/json"}


async def status(caller: Caller, method: str, path: str, headers: Mapping[str, str]) -> int:
    """Return the status of a request with these headers."""
    async with caller.session.request(
        method, caller.simulator.base_url + path, data=b'{"advance_s": 60}', headers=headers
    ) as response:
        return response.status


@pytest.mark.parametrize(
    "host",
    ["evil.test:{port}", "evil.test", "127.0.0.1", "localhost:1", "127.0.0.1.evil.test:{port}", ""],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/audit"), ("POST", "/clock"), ("POST", "/v1beta/models/m:generateContent")],
)
async def test_another_host_is_refused(host: str, method: str, path: str) -> None:
    """A page whose name leads to 127.0.0.1 reads no audit, moves no clock and gets no picture."""
    time = SetTime()
    async with calling(clock=time()) as caller:
        port = caller.simulator.base_url.rpartition(":")[2]
        headers = {"Host": host.format(port=port), **JSON}
        assert await status(caller, method, path, headers) == 421
        assert caller.simulator.clock.utc() == time.began
        assert not caller.simulator.audit.entries


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
async def test_its_own_names_are_answered(host: str) -> None:
    """All names of this machine lead to it, with its port."""
    async with calling() as caller:
        port = caller.simulator.base_url.rpartition(":")[2]
        assert await status(caller, "GET", "/audit", {"Host": f"{host}:{port}"}) == 200


async def test_a_client_without_a_host_is_answered() -> None:
    """A client of HTTP/1.0 names no host; it is no browser."""
    async with calling() as caller:
        address = caller.simulator.base_url.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1])), 5) as connection:
            connection.setblocking(False)
            connection.sendall(b"GET /audit HTTP/1.0\r\n\r\n")
            async with caller.session.get(f"{caller.simulator.base_url}/audit"):
                pass
            assert connection.recv(64).split()[1] == b"200"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (JSON, 200),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
        ({**JSON, "Origin": "{own}"}, 200),
        ({**JSON, "Origin": "http://evil.test"}, 403),
        ({**JSON, "Origin": "null"}, 403),
        ({**JSON, "Origin": "https://localhost"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "text/plain; x=application/json"}, 415),
    ],
)  # fmt: skip
async def test_only_json_of_its_own_moves_the_clock(headers: dict[str, str], expected: int) -> None:
    """What a page of another site can send without asking, and what says that it is one, is refused."""
    time = SetTime()
    async with calling(clock=time()) as caller:
        own = caller.simulator.base_url
        sent = {name: value.format(own=own) for name, value in headers.items()}
        assert await status(caller, "POST", "/clock", sent) == expected
        assert (caller.simulator.clock.utc() == time.began) == (expected != 200)
