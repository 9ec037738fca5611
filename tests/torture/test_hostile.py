import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.torture.commands import KEY, command, rows
from tests.torture.desk import ROOT
from tests.torture.hostile import PIXEL, hostile

# The timeouts of a run are minutes: here they are seconds, and nothing else is different. The last line of the words is the memory it took.
IN_A_HURRY = """
import pathlib, re, sys
from dataclasses import replace
from gemini_batch.cli import main
from gemini_batch.config import Timeouts
from gemini_batch.config import asked
from gemini_batch.engine import follow_up
follow_up.MAX_NOT_ANSWERS = follow_up.MAX_ALIKE = 10**6  # each of the cases is one in a row of many
settings = asked.settings_of
asked.settings_of = lambda given, **how: replace(settings(given, **how), timeouts=Timeouts(5.0, {between_s}, {whole_s}))
code = main()
seen = pathlib.Path("/proc/self/status")
print(re.search("VmHWM:\\s*(\\d+)", seen.read_text())[1] if seen.exists() else 0, file=sys.stderr)
sys.exit(code)
"""
# These end with a timeout, or may: after an error within a body the library can leave its reader waiting.
SLOW = ("endless-chunks", "slow-", "silence", "chunk-size-", "echo-in-a-chunk")


def run_on(
    folder: Path, base_url: str, *flags: str, between_s: float, whole_s: float
) -> tuple[int, str, int]:
    """Run a folder's manifest in a process of its own; return its exit code, its words and the most memory that it took, in bytes."""
    pace = ("--rpm", "60000", "--rpd", "1000000", "--concurrency", "8", "--max-attempts", "1")
    program = IN_A_HURRY.format(between_s=between_s, whole_s=whole_s)
    arguments = ["run", str(folder / "jobs.jsonl"), "--base-url", base_url, *pace, *flags]
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    words, _, memory_kb = (ended.stdout + ended.stderr).strip().rpartition("\n")
    return ended.returncode, words, int(memory_kb) * 1024


# An address that is no API ends a run at once: see `test_another_server_stops_the_run`.
HALTING = ("redirect", "switching", "304", "echo-in-a-redirect")
GROUPS: dict[str, tuple[Callable[[str], bool], str, float, float]] = {
    "at once": (lambda name: not name.startswith((*SLOW, *HALTING)), "header", 30, 60),
    "slow": (lambda name: name.startswith(SLOW), "header", 1, 2.5),
    "with the key in the query": (
        lambda name: name.startswith(("echo", "length")) and not name.startswith(HALTING),
        "query",
        5,
        10,
    ),
}


@pytest.mark.parametrize("group", GROUPS)
def test_whatever_a_server_says_is_a_row(tmp_path: Path, group: str) -> None:
    """Each answer ends in one row: with its image where there is a whole one, else with words that say what was wrong; the run goes on to its
    end in bounded memory, no redirect is followed, nothing is written elsewhere, and the key is nowhere.
    """
    belongs, auth, between_s, whole_s = GROUPS[group]
    with hostile() as (seen, all_cases):
        cases = {name: case for name, case in all_cases.items() if belongs(name)}
        jobs = ({"id": name, "prompt": f"Say {name}"} for name in cases)
        (tmp_path / "jobs.jsonl").write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
        code, words, memory_bytes = run_on(
            tmp_path, seen.base_url, "--auth", auth, between_s=between_s, whole_s=whole_s
        )

    assert code == 4, words
    assert "Traceback" not in words
    assert KEY not in words
    assert seen.elsewhere == []
    assert sorted(seen.calls) == sorted(cases)
    by_id = {row["id"]: row for row in rows(tmp_path)}
    assert sorted(by_id) == sorted(cases)
    assert len(rows(tmp_path)) == len(cases)
    wrong = [
        json.dumps(by_id[name])[:800]
        for name, case in cases.items()
        if by_id[name]["status"] != case.status
        or case.says not in json.dumps(by_id[name])
        or not _is_whole(tmp_path, by_id[name])
    ]
    assert not wrong, "\n".join(wrong)
    assert command("verify", str(tmp_path / "jobs.out")).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"jobs.jsonl", "jobs.out", "state"}
    for path in tmp_path.rglob("*"):
        assert KEY not in path.name
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
    assert memory_bytes < 300_000_000


@pytest.mark.parametrize("auth", ["header", "query"])
def test_another_server_stops_the_run(tmp_path: Path, auth: str) -> None:
    """A redirect, or what else no API says, is not followed, and ends the run; the key is nowhere."""
    with hostile() as (seen, cases):
        for name in (name for name in cases if name.startswith(HALTING)):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "jobs.jsonl").write_bytes(orjson.dumps({"id": name, "prompt": f"Say {name}"}))
            code, words, _ = run_on(folder, seen.base_url, "--auth", auth, between_s=5, whole_s=10)
            assert (code, "Traceback" in words) == (6, False), (name, words)
            assert cases[name].says in words, (name, words)
            assert KEY not in words
    assert seen.elsewhere == []
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def _is_whole(folder: Path, row: dict[str, Any]) -> bool:
    """Return whether a row has its one image, or else words that say why not."""
    if row["status"] != "succeeded":
        return row["images"] == [] and (row["status"] == "blocked" or bool(row["error"]["message"]))
    data = [(folder / "jobs.out" / image["path"]).read_bytes() for image in row["images"]]
    return data == [PIXEL] or row["id"] == "mime-unknown"
