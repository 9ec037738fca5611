import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, features

from gemini_batch.plan import Planner, request_sha256
from gemini_batch.records import InputUri
from gemini_batch.records.job import Job
from tests.builders import MODEL, line_of, make_row

ADDRESS = "http://127.0.0.1:9"
JOBS = [Job(id=f"robot-{number}", prompt="A robot") for number in range(10)]

# The event loop, network, pictures and terminal: only what sends or draws needs them.
HEAVY = {"aiohttp", "aiolimiter", "asyncio", "ssl", "PIL", "rich", "google", "numpy"}
# Pydantic takes longer to import than all of gemini-batch: only manifests and settings need it.
PYDANTIC = {"pydantic", "pydantic_core"}
# Commands that may import the same run in one process: what one of them imports, all have.
COMMANDS = {
    ("--help", "run --help"): HEAVY
    | PYDANTIC
    | {"orjson", "pathlib", "platformdirs", "shutil", "sqlite3", "zoneinfo"},
    (f"plan jobs.jsonl --base-url {ADDRESS}", f"plan jobs.jsonl --vertex p --base-url {ADDRESS}"): (
        HEAVY | PYDANTIC | {"sqlite3", "importlib.resources"}
    ),
    (f"run jobs.jsonl --json --base-url {ADDRESS}",): HEAVY | PYDANTIC | {"sqlite3"},
    ("verify jobs.out", "gallery jobs.out"): HEAVY | PYDANTIC | {"sqlite3"},
    ("status jobs.out",): (
        HEAVY | PYDANTIC | {"sqlite3", "tempfile", "gemini_batch.config.settings"}
    ),
    ("quota",): HEAVY | PYDANTIC,
    ("schema job", "schema row"): HEAVY | {"sqlite3"},
}
CHILD = """
import sys
from gemini_batch.cli import main
for line in sys.argv[1:]:
    try:
        code = main(line.split())
    except SystemExit as end:
        code = end.code or 0
    if code:
        sys.exit(f"{line}: {code}")
    print(f"end of {line}")
print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("commands", COMMANDS, ids="; ".join)
def test_a_command_imports_only_what_it_needs(commands: tuple[str, ...], tmp_path: Path) -> None:
    """A command that sends nothing starts without the libraries that send and draw."""
    digest = request_sha256(Planner(MODEL, InputUri).request(JOBS[0], 1))
    rows = [make_row(job.id or "", request_sha256=digest, endpoint=ADDRESS) for job in JOBS]
    lines = [job.model_dump_json(exclude_defaults=True) for job in JOBS]
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    (tmp_path / "jobs.out").mkdir()
    (tmp_path / "jobs.out" / "results.jsonl").write_bytes(b"".join(map(line_of, rows)))
    root = str(Path(__file__).parents[2])
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, *commands],
        cwd=tmp_path,
        env={
            **os.environ,
            "SSL_CERT_FILE": str(tmp_path / "certificates.pem"),  # only what sends reads it
            "PYTHONPATH": root,
            "GEMINI_BATCH_STATE_DIR": str(tmp_path),
            "GEMINI_API_KEY": "x",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(
        "".join(rf".+\nend of {command}\n" for command in commands), ended.stdout, re.DOTALL
    )
    imported = set(ended.stderr.split())
    assert "gemini_batch.cli.arguments" in imported
    assert imported & COMMANDS[commands] == set()


READERS = """
import sys
from gemini_batch.output.dimensions import pixels
sizes = [pixels(open(file, "rb").read(64), file) for file in sys.argv[1:]]
print(sizes, sorted(name for name in sys.modules if name.startswith("PIL")))
"""


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_no_answer_needs_an_image_library(tmp_path: Path) -> None:
    """No answer waits for an import of Pillow: its size is read from its header."""
    files = [str(tmp_path / f"image.{suffix}") for suffix in ("png", "jpg", "webp", "gif", "avif")]
    for file in files:
        Image.new("RGB", (16, 9)).save(file)
    ended = subprocess.run(
        [sys.executable, "-c", READERS, *files],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.splitlines() == [f"{[(16, 9)] * 5} []"], ended.stderr
