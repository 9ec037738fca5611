"""`status`: what an output folder says of itself."""

import errno
import fcntl
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.clock import utc_now
from gemini_batch.output import OutputFolder, rows
from gemini_batch.output.lock import holder
from tests.unit.gallery.folder import row, write_rows


def test_what_was_superseded_was_paid_for_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest rows say what there is, and all rows what it took; what is of unknown cost never counts as nothing."""

    def status(*flags: str) -> str:
        assert main(["status", str(tmp_path), *flags]) == 0
        return capsys.readouterr().out

    write_rows(
        tmp_path,
        row("cat", cost_usd=0.1344),
        row("robot", cost_usd=0.25),
        row("dog", cost_usd=None),
    )
    assert status().splitlines() == [
        f"{tmp_path}: 3,900 tokens, $0.384 at list price, and 1 of unknown cost",
        "       3  succeeded",
    ]

    write_rows(tmp_path, row("robot", cost_usd=0.5), row("dog", cost_usd=None))
    assert status().splitlines()[:2] == [
        f"{tmp_path}: 3,900 tokens, $0.634 at list price, and 1 of unknown cost",
        "  including superseded answers: $0.884 at list price, and 2 of unknown cost",
    ]
    found = orjson.loads(status("--json"))
    assert (found["cost_usd"], found["unpriced"]) == (0.6344, 1)
    assert found["all_rows"] == {"cost_usd": 0.8844, "unpriced": 2}


def test_service_tiers_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest rows by the tier that was served; nothing is said where all of them are standard."""

    def status(*flags: str) -> str:
        assert main(["status", str(tmp_path), *flags]) == 0
        return capsys.readouterr().out

    write_rows(tmp_path, row("a", service_tier="standard"), row("b"), row("c", service_tier=None))
    assert "served" not in status()
    write_rows(tmp_path, row("a", service_tier="flex"), row("d", service_tier="standard"))
    assert status().splitlines()[2:] == [
        "       4  succeeded",
        "       1  served as flex",
        "       1  served as standard",
    ]
    assert orjson.loads(status("--json"))["service_tiers"] == {"flex": 1, "standard": 1}


@pytest.mark.parametrize("name", ["manifest", "exit_code", "run_again_at", "ended_at"])
@pytest.mark.parametrize("value", ["[" * 400 + "]" * 400, '{"a":' * 300 + "1" + "}" * 300, "[]"])
def test_a_summary_nested_deeply_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """What no run writes is not shown, and never a bug."""
    write_rows(tmp_path, row("cat"))
    (tmp_path / "summary.json").write_text(f'{{"left": 1, "calls": 2, "{name}": {value}}}')
    for flags in ([], ["--json"]):
        assert main(["status", str(tmp_path), *flags]) == 0
    assert '"last_run":null' in capsys.readouterr().out


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("command", ["status", "verify", "gallery"])
def test_a_disk_that_fails_while_a_file_is_read_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: int,
) -> None:
    """An open file, which has no name in its error, ends with 8 and a sentence."""
    write_rows(tmp_path, row("cat"))

    def failing(_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(rows, "lines_of", failing)
    assert main([command, str(tmp_path)]) == 8
    assert os.strerror(number) in capsys.readouterr().err


FAILED = row(
    "n7",
    status="failed",
    cost_usd=0.0,
    error={"http_status": 503, "status": "UNAVAILABLE", "reason": None, "message": "busy"},
)


def test_it_says_which_calls_have_no_image_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each call and its reason, by its newest row; many are counted, and all are in the JSON."""
    write_rows(tmp_path, FAILED, row("cat", status="blocked", block_reason="IMAGE_SAFETY"))
    write_rows(tmp_path, FAILED | {"id": "ok"}, row("ok"))
    assert main(["status", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["  failed: n7: 503 UNAVAILABLE busy", "  blocked: cat: IMAGE_SAFETY STOP"]

    write_rows(tmp_path, *(FAILED | {"id": f"more-{number}"} for number in range(30)))
    assert main(["status", str(tmp_path)]) == 0
    assert "  and 12 more calls without an image; --json lists them" in capsys.readouterr().out
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert len(orjson.loads(capsys.readouterr().out)["unfinished"]) == 32


@pytest.mark.parametrize("error", [None, "no", 7, [1], {}, {"status": 3, "message": ["x"]}])
def test_an_edited_error_is_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: object
) -> None:
    """A row whose error is of another form is shown without it."""
    write_rows(tmp_path, FAILED | {"error": error, "finish_reason": None})
    assert main(["status", str(tmp_path)]) == 0
    assert "  failed: n7: \n" in capsys.readouterr().out


OPEN = {"manifest": "jobs.jsonl", "exit_code": None, "ended_at": None, "calls": 40, "left": 40}


def test_a_run_in_progress_is_told_from_one_that_was_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lock says which: with its process, what it did, its pace and its end; a killed one holds none."""
    ago = utc_now() - timedelta(minutes=2)
    write_rows(
        tmp_path,
        row("old", finished_at="2026-11-22T12:00:00Z"),
        *(row(f"n{number}", finished_at=f"{utc_now():%Y-%m-%dT%H:%M:%SZ}") for number in range(10)),
    )
    started_at = f"{ago:%Y-%m-%dT%H:%M:%SZ}"
    (tmp_path / "summary.json").write_bytes(orjson.dumps(OPEN | {"started_at": started_at}))

    def last_line() -> str:
        assert main(["status", str(tmp_path)]) == 0
        return capsys.readouterr().out.splitlines()[-1]

    killed = "  last run of jobs.jsonl: was killed; at its start 40 of 40 calls left"
    assert last_line() == killed
    with OutputFolder(tmp_path).locked():
        pace = "10 of 40 calls done, 5 a minute, about 6 min left"
        assert last_line() == f"  running now (process {os.getpid()}): jobs.jsonl: {pace}"
    assert last_line() == killed


def test_a_look_does_not_keep_a_run_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that starts while `status` looks at the lock gets the folder."""
    write_rows(tmp_path, row("cat"))
    looking = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda _seconds: fcntl.flock(looking, fcntl.LOCK_UN))
    with OutputFolder(tmp_path).locked():
        assert holder(tmp_path) == f"process {os.getpid()}"
    os.close(looking)


def test_how_a_run_was_stopped_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code comes with the reason."""
    write_rows(tmp_path, row("cat"))
    stops = [{"reason": "day_closed", "message": "x"}, 3, {"reason": []}]
    ended = {"manifest": "a.jsonl", "exit_code": 5, "ended_at": "x", "calls": 9, "left": 8}
    (tmp_path / "summary.json").write_bytes(orjson.dumps(ended | {"stops": stops}))
    assert main(["status", str(tmp_path)]) == 0
    expected = "  last run of a.jsonl: stopped (day_closed), exit 5, 8 of 9 calls left\n"
    assert expected in capsys.readouterr().out


def test_held_calls_are_those_of_the_last_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the reason, in words and in numbers; what a damaged summary says instead is left out."""
    write_rows(tmp_path, row("a"))
    held = {"blocked": 2, "waiting": 1, "\x1b[1m": 3, "failed": "many"}
    (tmp_path / "summary.json").write_bytes(orjson.dumps({"held": held}))
    assert main(["status", str(tmp_path)]) == 0
    words = "  3 held for pictures of other calls (2 blocked, 1 in batches)"
    assert words in capsys.readouterr().out.splitlines()
    (tmp_path / "summary.json").write_bytes(orjson.dumps({"held": ["blocked"]}))
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["held"] == {}


def test_many_missing_images_are_counted_and_a_few_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that lost its pictures names twenty, and counts the others."""
    image = {"mime_type": "image/png", "size_bytes": 1, "width": 1, "height": 1, "sha256": "0"}
    names = [f"images/r{number:03}.png" for number in range(23)]
    write_rows(tmp_path, *(row(name, images=[image | {"path": name}]) for name in names))

    assert main(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "missing: " in line] == [f"  missing: {n}" for n in names[:20]]
    assert said[-1] == "  and 3 more images missing; --json lists them"
    assert main(["status", str(tmp_path), "--json"]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert (found["missing"], found["missing_images"]) == (23, names)
