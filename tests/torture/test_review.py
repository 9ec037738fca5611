"""The review under kills: a mark that was answered is on the disk, whatever happens to the server."""

import json
import random
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.output.marks import Marks
from tests.unit.gallery.folder import picture, place, row, write_rows

pytestmark = pytest.mark.torture

CALLS, KILLS = 40, 12


@contextmanager
def reviewed(out: Path, said: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command, yield its process and address; kill it at the end of the block."""
    command = [sys.executable, "-m", "gemini_batch", "review", str(out), "--no-browser"]
    with said.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def post(url: str, body: Any) -> bool:
    """Return whether a mark was answered as saved."""
    origin = url.rsplit("/", 2)[0]
    headers = {"Content-Type": "application/json", "Origin": origin}
    request = urllib.request.Request(f"{url}marks", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_no_mark_is_lost_by_kills_in_the_middle_of_marking(tmp_path: Path) -> None:
    """Two tabs mark while the server is killed, again and again: each mark that was answered counts."""
    out, source = tmp_path / "jobs.out", random.Random(7)
    files = {str(number): place(out, f"images/{number}.png", picture()) for number in range(CALLS)}
    write_rows(out, *(row(name, images=[file]) for name, file in files.items()))
    saved: dict[str, int] = {}
    tokens: list[str] = []
    for _ in range(KILLS):
        with reviewed(out, tmp_path / "said") as (process, url):
            with urllib.request.urlopen(url, timeout=30) as page:  # which learns of the pictures
                assert page.status == 200
            tokens.append(url.rsplit("/", 2)[1])
            killer = threading.Timer(
                source.uniform(0.005, 0.1), process.send_signal, [signal.SIGKILL]
            )
            tabs = [
                threading.Thread(target=tab, args=(url, files, saved, first, source.random()))
                for first in (0, 1)
            ]
            for each in (*tabs, killer):
                each.start()
            for each in (*tabs, killer):
                each.join()
        marks = Marks(out)
        for name, rating in saved.items():
            assert marks.of(name, files[name]["sha256"]).rating in (rating, rating % 5 + 1)
    assert len(saved) > CALLS / 4
    whole = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(token.encode() in whole for token in tokens)


def tab(url: str, files: dict[str, Any], saved: dict[str, int], first: int, seed: float) -> None:
    """Rate pictures until the server is gone; note what was answered."""
    source = random.Random(seed)
    while True:
        name = str(source.randrange(first, CALLS, 2))
        rating = saved.get(name, 0) % 5 + 1
        mark = {"id": name, "sha256": files[name]["sha256"], "rating": rating}
        if not post(url, mark):
            return
        saved[name] = rating
