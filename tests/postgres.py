"""A PostgreSQL server of a test, from Debian's package: its own folder, user and port.

Where the program is missing its tests are skipped, unless `GEMINI_BATCH_NEEDS_POSTGRES` is set, as
in CI. Its clock can be set, for `clock_timestamp` is found in the schema `shifted` first.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

USER = "gb"
# Below the ports of outgoing connections, one of which may have any port above.
_PORTS = range(20_000, 32_000)
_RAM = Path("/dev/shm")
_SHIFTED = """
CREATE SCHEMA shifted;
CREATE TABLE shifted.clock (stands_at_s float8, step_s float8 NOT NULL);
INSERT INTO shifted.clock VALUES (NULL, 0);
CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(
        to_timestamp(stands_at_s),
        pg_catalog.clock_timestamp() + make_interval(secs => step_s)
    ) FROM shifted.clock
$$;
"""


def programs() -> Path | None:
    """Return the folder of the server's programs, None if they are not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    on_path = shutil.which("initdb")
    return found[0].parent if found else Path(on_path).parent if on_path else None


def needs_postgres() -> None:
    """Skip the test where there is no server, unless it must run."""
    if programs() is None and not os.environ.get("GEMINI_BATCH_NEEDS_POSTGRES"):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")


class Server:
    """A server on 127.0.0.1; its files are in memory where possible."""

    def __init__(self) -> None:
        programs_found = programs()
        assert programs_found is not None, "apt-get install postgresql"
        self._programs = programs_found
        base = _RAM if _RAM.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="gemini_batch-pg-", dir=base))
        self.folder.chmod(0o755)
        self.port = free_port()
        # The server refuses to be root.
        self._as = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")

    @property
    def data(self) -> Path:
        """The folder of its databases."""
        return self.folder / "data"

    @property
    def url(self) -> str:
        """The address, without a password."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        """Make the databases, start, and let the clock be set."""
        self._do("initdb", "-D", self.data, "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8")
        self.start()
        self.execute(_SHIFTED)
        self.execute(f"ALTER ROLE {USER} SET search_path = shifted, pg_catalog, public")

    def copy(self) -> "Server":
        """Return a running replica, which follows this server without being waited for."""
        other = Server()
        self._do(
            "pg_basebackup", "-D", other.data, "-R", "-c", "fast", "--no-sync", "-U", USER,
            "-h", "127.0.0.1", "-p", str(self.port),
        )  # fmt: skip
        other.start()
        return other

    def promote(self) -> None:
        """Let a replica take over."""
        self._control("promote", "-w")

    def start(self) -> None:
        """Start, and wait until it serves; after `kill` its children may still end."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        until_s = time.monotonic() + 60
        while True:
            try:
                self._control("start", "-w", "-l", self.folder / "log", "-o", options)
            except subprocess.CalledProcessError:
                if time.monotonic() > until_s:
                    raise
                time.sleep(0.2)
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        """Stop it, if it runs."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._control("stop", "-w", "-m", mode)

    def kill(self) -> None:
        """End it without a word; its children notice it when they next work."""
        os.kill(self.pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The process that all others are children of."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def remove(self) -> None:
        """Stop it and delete all."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def empty(self) -> None:
        """Delete what tests wrote, and let the clock go right."""
        self.execute("DROP TABLE IF EXISTS gemini_batch_ledger")
        self.execute("UPDATE shifted.clock SET stands_at_s = NULL, step_s = 0")

    def set_clock(self, stands_at_s: float | None, step_s: float = 0.0) -> None:
        """Set the clock of the ledger, for good, or by a step."""
        self.execute("UPDATE shifted.clock SET stands_at_s = %s, step_s = %s", stands_at_s, step_s)

    def _control(self, *arguments: object) -> None:
        self._do("pg_ctl", "-D", self.data, *arguments)

    def _do(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [str(self._programs / program), *map(str, arguments)],
            check=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            timeout=120,
            **self._as,  # type: ignore[call-overload]
        )


def free_port() -> int:
    """Return a port that nobody listens on, and that no outgoing connection takes."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port is free")


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Yield a new server, which is removed at the end."""
    needs_postgres()
    server = Server()
    try:
        server.create()
        yield server
    finally:
        server.remove()
