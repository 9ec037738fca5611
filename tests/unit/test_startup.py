import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import line_of, make_row

# The event loop, network, pictures and terminal: only what sends or draws needs them.
HEAVY = {"aiohttp", "aiolimiter", "asyncio", "ssl", "PIL", "rich", "google", "numpy"}
# Pydantic takes longer to import than all of gemini_batch: only manifests and settings need it.
PYDANTIC = {"pydantic", "pydantic_core"}
COMMANDS = {
    "--help": HEAVY | PYDANTIC | {"orjson", "platformdirs", "sqlite3", "zoneinfo"},
    "run --help": HEAVY | PYDANTIC | {"orjson", "platformdirs", "sqlite3", "zoneinfo"},
    "plan jobs.jsonl": HEAVY | {"sqlite3"},
    "status jobs.out": HEAVY | PYDANTIC | {"sqlite3"},
    "verify jobs.out": HEAVY | PYDANTIC | {"sqlite3"},
    "gallery jobs.out": HEAVY | PYDANTIC | {"sqlite3"},
    "quota": HEAVY | PYDANTIC,
    "schema job": HEAVY | {"sqlite3"},
    "schema row": HEAVY | {"sqlite3"},
}
CHILD = """
import sys
from gemini_batch.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code or 0
print(*sys.modules, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_only_what_it_needs(command: str, tmp_path: Path) -> None:
    """A command that sends nothing starts without the libraries that send and draw."""
    (tmp_path / "jobs.jsonl").write_text('{"id": "robot", "prompt": "A robot"}\n')
    (tmp_path / "jobs.out").mkdir()
    (tmp_path / "jobs.out" / "results.jsonl").write_bytes(line_of(make_row()))
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, *command.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root, "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout
    imported = set(ended.stderr.split())
    assert "gemini_batch.cli.arguments" in imported
    assert imported & COMMANDS[command] == set()
