"""Downscaled input images, from the command line to the server."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.inputs import downscale
from gemini_batch.output import OutputFolder
from gemini_batch.records import InputImage, media_types
from tests.builders import corners, sha256
from tests.simulated import simulator


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a manifest of one job with a large photo, a small picture, and a URI."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    corners(400, 200).save(tmp_path / "large.jpg")
    corners(20, 10).save(tmp_path / "small.png")
    images = ["large.jpg", "small.png", "https://example.org/a.png"]
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(orjson.dumps({"id": "robot", "prompt": "A robot", "images": images}) + b"\n")
    return path


FLAGS = ["--max-input-pixels", "800", "--rpm", "6000"]


def test_the_copy_is_sent_and_the_row_says_so(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row names both, and a second run, with or without copies, has nothing to do."""
    monkeypatch.setattr(OutputFolder, "clear_inputs", lambda _store: None)
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        assert main(command) == 0
        out = job.parent / "jobs.out"
        row = orjson.loads((out / "results.jsonl").read_bytes())
        large, small, uri = row["inputs"]
        (copy,) = (out / ".gemini_batch/inputs").iterdir()
        assert large == {
            "path": "large.jpg",
            "sha256": sha256((job.parent / "large.jpg").read_bytes()),
            "sent": {
                "mime_type": "image/jpeg",
                "size_bytes": copy.stat().st_size,
                "width": 40,
                "height": 20,
                "sha256": sha256(copy.read_bytes()),
            },
        }
        assert small == {
            "path": "small.png",
            "sha256": sha256((job.parent / "small.png").read_bytes()),
            "sent": None,
        }
        assert uri == {"path": "https://example.org/a.png", "sha256": None, "sent": None}
        (entry,) = server.audit.entries
        assert entry.http_status == 200
        copy.unlink()
        assert main(command) == 0
        assert len(server.audit.entries) == 1


def test_copies_stay_for_as_long_as_a_call_may_need_them(job: Path) -> None:
    """A stopped run leaves them for the next one; when all calls have ended they are deleted."""
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        job.write_bytes(job.read_bytes().replace(b"A robot", b"A robot [[fault:429-day x1]]"))
        assert main(command) == 5
        assert len(list((job.parent / "jobs.out/.gemini_batch/inputs").iterdir())) == 1
        assert main([*command, "--quota-scope", "another"]) == 0
        assert not (job.parent / "jobs.out/.gemini_batch/inputs").exists()


def test_what_is_sent_is_the_copy(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body has the copy's base64 and not the original's."""
    from gemini_batch.client import upload

    sent: list[str] = []
    blocks_ = upload.base64_blocks

    def noted(image: InputImage) -> Any:
        sent.append(image.file)
        return blocks_(image)

    monkeypatch.setattr(upload, "base64_blocks", noted)
    with simulator() as server:
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 0
    assert [Path(file).parent.name for file in sent] == ["inputs", job.parent.name]


def test_another_pillow_pays_for_nothing_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that makes other bytes of the same image does not change its request."""
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        assert main(command) == 0
        monkeypatch.setattr(downscale, "_copy", lambda *_: pytest.fail("nothing must be sent"))
        monkeypatch.setitem(downscale._SAVED_AS, "image/jpeg", {"format": "JPEG", "quality": 10})
        assert main(command) == 0
        assert len(server.audit.entries) == 1


def test_an_undecodable_image_fails_its_call_alone_and_nothing_is_sent(job: Path) -> None:
    """Exit 4, a row with the reason and no attempt, and the other jobs continue."""
    large = job.parent / "large.jpg"
    corners(400, 400).save(large)
    large.write_bytes(large.read_bytes()[:-200])
    with job.open("ab") as more:
        more.write(b'{"id": "cat", "prompt": "A cat"}\n')
    with simulator() as server:
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 4
        assert [entry.prompt for entry in server.audit.entries] == ["A cat"]
    rows = [
        orjson.loads(line)
        for line in (job.parent / "jobs.out/results.jsonl").read_bytes().splitlines()
    ]
    (row,) = [row for row in rows if row["id"] == "robot"]
    assert (row["status"], row["attempts"], row["cost_usd"]) == ("failed", 0, 0.0)
    assert row["error"]["status"] == "INPUT_UNREADABLE"
    assert row["error"]["message"].startswith("large.jpg: can't be decoded to downscale it (")


def test_copies_that_are_still_too_large_together_are_not_sent(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's estimate can be wrong; the limit is checked again with the copies."""
    with simulator() as server:
        monkeypatch.setattr(downscale, "_copy", lambda *_: (job.parent / "large.jpg").read_bytes())
        monkeypatch.setattr(media_types, "MAX_INLINE_BYTES", 1000)
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 4
        assert list(server.audit.entries) == []
    row = orjson.loads((job.parent / "jobs.out/results.jsonl").read_bytes())
    assert row["error"]["status"] == "TOO_LARGE"
    assert row["error"]["message"].endswith("allowed: 0 MB a request: set --max-input-pixels lower")


def test_plan_shows_the_saving_and_writes_nothing(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From headers alone: the number of images, their bytes, and the approximate bytes of the copies."""
    size_bytes = (job.parent / "large.jpg").stat().st_size
    assert main(["plan", str(job), "--json", *FLAGS]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["made_smaller"] == {
        "images": 1,
        "size_bytes": size_bytes,
        "upload_bytes": -(-size_bytes // 100),
    }
    assert main(["plan", str(job), *FLAGS]) == 0
    assert (
        "  inputs  1 image downscaled: about 0.0 MB to send instead of 0.0 MB\n"
        in capsys.readouterr().out
    )
    assert main(["plan", str(job), "--rpm", "6000"]) == 0
    assert "downscaled" not in capsys.readouterr().out
    assert sorted(path.name for path in job.parent.iterdir()) == [
        "jobs.jsonl",
        "large.jpg",
        "small.png",
    ]
