from collections.abc import Iterator

import pytest

from tests.postgres import Server, serving


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    """Return a PostgreSQL server, which the tests of a process share."""
    with serving() as running:
        yield running


@pytest.fixture
def postgres(server: Server) -> Server:
    """Return the server without any table, its clock right."""
    server.empty()
    return server
