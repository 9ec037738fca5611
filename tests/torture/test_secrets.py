import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest

from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator, wait_for_requests
from tests.torture.commands import command, run, write_jobs
from tests.torture.desk import ROOT

FAULTS = (
    "503",
    "400",
    "500-text",
    "502",
    "reset",
    "not-json",
    "403-file",
    "truncated",
    "bad-base64",
    "array",
)
KEYS = ["AIzaSyD-9_key.of/a+person~0123456789abc", "proxy-k3y"]


def shows(data: bytes, key: str) -> bool:
    """Return whether bytes hold the key, as it is or as a URL has it."""
    return any(spelling.encode() in data for spelling in (key, quote(key, safe=""), quote(key)))


def telltales(folder: Path, key: str) -> list[Path]:
    """Return all files below a folder that hold the key, or bear it in their names."""
    return [
        path
        for path in folder.rglob("*")
        if shows(str(path.relative_to(folder)).encode(), key)
        or (path.is_file() and shows(path.read_bytes(), key))
    ]


@pytest.mark.parametrize("auth", ["header", "query"])
@pytest.mark.parametrize("key", KEYS)
def test_a_run_writes_its_key_nowhere(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch, auth: str, key: str
) -> None:
    """Not in any file of the output folder or of the state folder, and not in a word, whatever goes wrong; nor do the commands after it."""
    monkeypatch.setenv("GEMINI_API_KEY", key)
    jobs = (
        {"id": fault, "prompt": f"A robot [[fault:{fault}]]"} for fault in (*FAULTS, "none-of-them")
    )
    (tmp_path / "jobs.jsonl").write_bytes(
        b"".join(orjson.dumps(job) + b"\n" for job in jobs).replace(b" [[fault:none-of-them]]", b"")
    )
    ended = run(tmp_path, server.base_url, "--auth", auth, "--max-attempts", "1", "--json")
    assert ended.code == 4, ended
    (tmp_path / "redirect.jsonl").write_bytes(b'{"prompt": "A robot [[fault:redirect]]"}')
    stopped = command(
        "run", str(tmp_path / "redirect.jsonl"), "--base-url", server.base_url, "--auth", auth
    )
    assert stopped.code == 6, stopped
    out = str(tmp_path / "jobs.out")
    others = [
        command(*words) for words in (["status", out], ["verify", out], ["quota"], ["gallery", out])
    ]
    words = "".join(each.out + each.err for each in (ended, stopped, *others)).encode()
    assert not shows(words, key)
    assert telltales(tmp_path, key) == []
    assert {path.name for path in tmp_path.iterdir()} == {
        "jobs.jsonl",
        "jobs.out",
        "redirect.jsonl",
        "redirect.out",
        "state",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("auth", ["header", "query"])
def test_a_run_that_is_killed_leaves_its_key_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: str
) -> None:
    """While calls are in flight neither the process's title nor a file shows it, and after a kill the next run's words do not."""
    key = KEYS[0]
    monkeypatch.setenv("GEMINI_API_KEY", key)
    write_jobs(tmp_path, 4)
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=3.0)) as server:
        flags = [
            "--base-url",
            server.base_url,
            "--rpm",
            "6000",
            "--concurrency",
            "3",
            "--auth",
            auth,
        ]
        arguments = [
            sys.executable,
            "-m",
            "gemini_batch",
            "run",
            str(tmp_path / "jobs.jsonl"),
            *flags,
        ]
        process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        wait_for_requests(server, 3)
        title = b"".join(
            Path(f"/proc/{process.pid}/{name}").read_bytes() for name in ("cmdline", "comm")
        )
        in_flight = telltales(tmp_path, key)
        process.kill()
        words = process.communicate()[0]
    assert not shows(title, key)
    assert in_flight == []
    assert telltales(tmp_path, key) == []
    planned = command("plan", str(tmp_path / "jobs.jsonl"), "--base-url", server.base_url)
    assert not shows(words + (planned.out + planned.err).encode(), key)


@pytest.mark.parametrize("key", KEYS)
def test_a_bug_does_not_tell_the_key(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """The file that a person is asked to send holds the traceback, and not the key that an error's text may quote."""

    async def broken(*_arguments: object) -> None:
        raise LookupError(f"https://api.test/?key={quote(key, safe='')} with {key}")

    monkeypatch.setenv("GEMINI_API_KEY", key)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(InteractiveTransport, "send", broken)
    write_jobs(tmp_path, 1)
    ended = run(tmp_path, server.base_url)
    assert ended.code == 1
    (report,) = tmp_path.glob("gemini_batch-bug-*.txt")
    assert "LookupError: https://api.test/?key=[key] with [key]" in report.read_text()
    assert telltales(tmp_path, key) == []
    assert not shows((ended.out + ended.err).encode(), key)
