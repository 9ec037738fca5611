"""Thumbnails that are made while a run waits."""

import os
import resource
import signal
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gemini_batch.cli import thumbnails
from gemini_batch.config import Settings
from gemini_batch.config.run_config import RunConfig
from gemini_batch.gallery import ahead
from gemini_batch.gallery.thumbnails import FOLDER
from gemini_batch.records.shard import Shard
from gemini_batch.store.address import BucketAddress
from tests.unit.gallery.folder import picture, place, row, write_rows

SLOW = replace(RunConfig(tier="free", api_key="secret").settings(), base_url="https://api.test")


def drawn(out: Path, start_bytes: int, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the thumbnails after a process whose run ends at once."""
    monkeypatch.setattr(sys, "argv", ["ahead", str(out), str(start_bytes)])
    monkeypatch.setattr(ahead, "_give_way", lambda: None)
    with Path(os.devnull).open() as ended:
        monkeypatch.setattr(sys, "stdin", ended)
        ahead.main()
    return {path.name.partition("-")[0] for path in (out / FOLDER).glob("*.webp")}


def test_draws_the_pictures_of_this_run(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of rows that were there before are left to the gallery, those of this run drawn."""
    write_rows(out, row("old", images=[place(out, "images/old.png", picture("red"))]))
    start_bytes = (out / "results.jsonl").stat().st_size
    new = place(out, "images/new.png", picture("blue"))
    draft = place(out, "images/new.draft.png", picture("green"))
    write_rows(out, row("new", images=[new], drafts=[draft]))
    assert drawn(out, start_bytes, monkeypatch) == {new["sha256"], draft["sha256"]}


@pytest.mark.parametrize("name", ["bomb", "cut", "text", "missing", "outside"])
def test_a_hostile_picture_is_left_out(
    out: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that is huge, broken, none, gone or elsewhere does not stop those after it."""
    data = {"cut": picture()[:60], "text": b"<svg>"}.get(name, picture())
    if name == "bomb":
        bomb = BytesIO()
        Image.new("1", (9_900, 9_900)).save(bomb, "PNG", compress_level=1)
        data = bomb.getvalue()
    monkeypatch.setattr(ahead, "_MEMORY_BYTES", 300_000_000)
    hostile = place(out, "images/a.png", data)
    if name == "missing":
        (out / "images/a.png").unlink()
    if name == "outside":
        (out / "images/a.png").rename(out.parent / "a.png")
        (out / "images/a.png").symlink_to(out.parent / "a.png")
    good = place(out, "images/b.png", picture("blue"))
    write_rows(out, row("a", images=[hostile]), row("b", images=[good]))
    assert drawn(out, 0, monkeypatch) == {good["sha256"]}


def test_a_reader_that_fails_ends_its_fork_alone(tmp_path: Path) -> None:
    """Each row has limits of time and memory; one that crashes, raises or is killed is passed."""

    def draw(row: dict[str, Any]) -> None:
        if row["id"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if row["id"] == "raises":
            raise RuntimeError
        cpu_s, memory_bytes = (
            resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS)
        )
        (tmp_path / row["id"]).write_text(f"{cpu_s} {memory_bytes}")

    ahead.draw_apart(({"id": name} for name in ("killed", "raises", "good")), draw)
    assert [path.name for path in tmp_path.iterdir()] == ["good"]
    assert (tmp_path / "good").read_text() == f"{ahead._CPU_S} {ahead._MEMORY_BYTES}"


@pytest.mark.parametrize(
    ("config", "is_slow"),
    [
        (SLOW, True),
        (replace(SLOW, route="auto"), True),
        (replace(SLOW, base_url=None), False),
        (replace(SLOW, route="batch"), False),
        (replace(SLOW, shard=Shard(1, 2)), False),
        (replace(SLOW, bucket=BucketAddress.parse("s3://bucket/a")), False),
        (replace(SLOW, limits=replace(SLOW.limits, requests_per_min=60)), True),
        (replace(SLOW, limits=replace(SLOW.limits, requests_per_min=61)), False),
        (replace(SLOW, limits=replace(SLOW.limits, requests_per_min=None)), False),
    ],
)
def test_only_beside_a_run_that_waits(config: Settings, *, is_slow: bool) -> None:
    """A run that is fast, simulated, one of several, in batches or in a bucket draws nothing."""
    assert thumbnails.is_slow(config) is is_slow


def test_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has no key, ends when its run ends, and is killed if it hangs."""
    monkeypatch.setenv("GEMINI_API_KEY", "secret")
    monkeypatch.setattr(thumbnails, "_END_WITHIN_S", 0.0)
    seen = tmp_path / "seen"
    os.mkfifo(seen)
    code = f"import os, time\nopen({str(seen)!r}, 'w').write(str([*os.environ]))\ntime.sleep(60)"
    drawing = thumbnails._Drawing(tmp_path, 0)
    drawing._command = ["-c", code]
    drawing.start()
    assert "KEY" not in seen.read_text()
    drawing.end()
    assert drawing._process is not None
    assert drawing._process.returncode == -signal.SIGKILL
    drawing.start()
    assert drawing._process.returncode is not None


def test_nothing_is_started_in_a_short_run(tmp_path: Path) -> None:
    """A run of a few seconds starts no process."""
    with thumbnails.drawn_ahead(tmp_path, SLOW):
        pass
    assert [*tmp_path.iterdir()] == []
