import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from gemini_batch.output import OutputFolder
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.simulated import simulator, wait_for_requests
from tests.torture.commands import command, rows, run, sent, write_jobs
from tests.torture.desk import ROOT
from tests.torture.harness import CONCURRENCY, torture
from tests.virtual.clock import NOON_UTC


@pytest.mark.promise("kept")
def test_runs_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Killed at moments aimed at arriving answers and at commits, and run again: each call ends once, with an image that was sent for it."""
    measured = torture(tmp_path, kills=2, seed=3, calls=20)
    assert measured.faults == []
    assert (measured.kills, measured.calls % 20, measured.kept_again) == (2, 0, 0)
    assert measured.most_repeats <= CONCURRENCY


def test_runs_whose_rows_come_and_go_lose_nothing(tmp_path: Path) -> None:
    """Killed while results.jsonl is renamed and restored, and run again: no finished call is sent again, and each has one row."""
    measured = torture(tmp_path, kills=3, seed=5, calls=20, renames=True)
    assert measured.faults == []
    assert (measured.calls % 20, measured.finished_again, measured.kept_again) == (0, 0, 0)


def test_runs_that_are_killed_while_they_fetch_pictures_lose_nothing(tmp_path: Path) -> None:
    """Killed while the pictures that answers name by URI are fetched, and run again: no answer that was whole is sent for again."""
    measured = torture(tmp_path, kills=2, seed=5, calls=20, by_uri=True)
    assert measured.faults == []
    assert (measured.kills, measured.calls % 20, measured.kept_again) == (2, 0, 0)
    assert measured.while_receiving


def test_chains_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Killed at any moment, and run again: each call of a chain is sent with the one picture that its parent's row has."""
    measured = torture(tmp_path, kills=2, seed=6, calls=18, chained=6)
    assert measured.faults == []
    assert (measured.kills, measured.calls % 18, measured.wrong_inputs) == (2, 0, 0)


def can_trace() -> bool:
    """Return whether `strace` is here, and may do what it does."""
    strace = shutil.which("strace")
    return (
        strace is not None
        and subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode == 0
    )


@pytest.mark.skipif(not can_trace(), reason="no strace on this machine, or none that is allowed")
def test_runs_that_are_killed_before_a_call_of_the_system_lose_nothing(tmp_path: Path) -> None:
    """Killed before a write, a rename, a sync, also of a recovery that ends what another kill left, and run again: each call ends once."""
    measured = torture(tmp_path, kills=2, seed=4, calls=12, at_syscalls=True)
    assert measured.faults == []
    assert (measured.kills, measured.calls % 12, measured.kept_again) == (2, 0, 0)


# --- signals ----------------------------------------------------------------------------------------------------------


def started(
    folder: Path, server: Simulator, *before: str, **options: object
) -> subprocess.Popen[bytes]:
    """Start a run of three calls at a time."""
    flags = ["--base-url", server.base_url, "--rpm", "6000", "--concurrency", "3"]
    arguments = [
        *before,
        sys.executable,
        "-m",
        "gemini_batch",
        "run",
        str(folder / "jobs.jsonl"),
        *flags,
    ]
    return subprocess.Popen(arguments, cwd=ROOT, **options)  # type: ignore[call-overload, no-any-return] # `options` are Popen's


def test_a_terminal_that_is_closed_drains(tmp_path: Path) -> None:
    """When the terminal goes away what is in flight is written, though nobody can be told; 143, and the next run sends only the rest."""
    write_jobs(tmp_path, 8)
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.7)) as server:
        ours, theirs = pty.openpty()
        process = started(
            tmp_path, server, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        wait_for_requests(server, 3)
        os.close(ours)  # what is written to it from here on fails
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 143
        assert len(rows(tmp_path)) == len(list(sent(server))) == 3
        assert run(tmp_path, server.base_url).code == 0
        assert len(list(sent(server))) == 8


def test_nohup_is_heard(tmp_path: Path) -> None:
    """A run that was started with `nohup` goes on when the terminal is closed."""
    write_jobs(tmp_path, 4)
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.3)) as server:
        process = started(
            tmp_path, server, "nohup", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        wait_for_requests(server, 1)
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
        assert len(rows(tmp_path)) == 4


# --- what may have been billed ----------------------------------------------------------------------------------------


def test_what_may_have_been_billed_is_left_alone_when_asked(tmp_path: Path) -> None:
    """`--on-uncertain skip` sends no call again that a killed run had in flight: its row says `uncertain`, the exit code 4, and
    `--retry uncertain` sends it.
    """
    write_jobs(tmp_path, 3)
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=2.0)) as server:
        process = started(tmp_path, server, stderr=subprocess.DEVNULL)
        wait_for_requests(
            server, 3
        )  # one that was noted and had not arrived would be uncertain as well
        process.kill()
        process.wait()
        asked = set(sent(server))
    with simulator() as server:
        # The other server has another address, and so would be sent all of it: the rows are of the first one.
        ended = run(tmp_path, server.base_url, "--on-uncertain", "skip")
        assert ended.code == 4, ended.err
        assert {row["id"] for row in rows(tmp_path) if row["status"] == "uncertain"} == asked
        assert not asked & set(sent(server))
        assert "may have been billed" in ended.err
        assert run(tmp_path, server.base_url, "--on-uncertain", "skip").code == 4
        assert not asked & set(sent(server))
        assert run(tmp_path, server.base_url, "--retry", "uncertain").code == 0
        assert asked <= set(sent(server))
        assert command("verify", str(tmp_path / "jobs.out")).code == 0


@pytest.mark.parametrize(
    ("flag", "status", "requests"), [("skip", "uncertain", 1), ("retry", "succeeded", 2)]
)
def test_an_answer_that_breaks_off_may_have_been_billed(
    tmp_path: Path, server: Simulator, flag: str, status: str, requests: int
) -> None:
    """What was sent and broke off is sent again within the run, and with `skip` it is not."""
    job = {"id": "n0", "prompt": "A robot [[fault:cut x1]]"}
    (tmp_path / "jobs.jsonl").write_bytes(orjson.dumps(job))
    run(tmp_path, server.base_url, "--on-uncertain", flag)
    assert [row["status"] for row in rows(tmp_path)] == [status]
    assert len(list(sent(server))) == requests


def test_an_image_that_was_deleted_is_made_again_only_when_asked(
    tmp_path: Path, server: Simulator
) -> None:
    """A person who deletes an image is not billed for it again, unless by `--retry missing`; the others stay."""
    write_jobs(tmp_path, 3)
    assert run(tmp_path, server.base_url).code == 0
    (tmp_path / "jobs.out/images/n1.jpg").unlink()
    assert run(tmp_path, server.base_url).code == 0
    assert len(list(sent(server))) == 3
    planned = command(
        "plan",
        str(tmp_path / "jobs.jsonl"),
        "--base-url",
        server.base_url,
        "--retry",
        "missing",
        "--json",
    )
    assert orjson.loads(planned.out)["to_send"] == 1
    assert run(tmp_path, server.base_url, "--retry", "missing").code == 0
    assert list(sent(server))[3:] == ["n1"]
    assert run(tmp_path, server.base_url, "--retry", "missing").code == 0
    assert len(list(sent(server))) == 4
    assert command("verify", str(tmp_path / "jobs.out")).code == 0


# --- answers without a row --------------------------------------------------------------------------------------------


def kept(store: OutputFolder, *images: bytes) -> list[Path]:
    """Let an answer arrive whole, and no row come of it; return its files."""
    (store.private / "incoming").mkdir(parents=True)
    incoming = store.stage("robot", 2, NOON_UTC)
    for index, data in enumerate(images):
        part = incoming.open_image(index)
        part.write(data)
        part.close()
    incoming.journal(b'{"a": "\n"}')
    return sorted((store.private / "incoming").iterdir())


def test_an_answer_without_a_row_is_found_whole(tmp_path: Path) -> None:
    """All that a row needs of it is there again: the rest of the answer, the images, the attempt and the time."""
    store = OutputFolder(tmp_path)
    kept(store, b"first", b"second")
    found = store.journaled_answer("robot")
    assert found is not None
    assert (found.attempt, found.sent_at, found.envelope) == (2, NOON_UTC, b'{"a": "\n"}')
    assert [Path(image.file).read_bytes() for image in found.images] == [b"first", b"second"]
    assert [image.head for image in found.images] == [b"first", b"second"]
    assert store.journaled_answer("cat") is None
    store.remove_journaled(found)
    assert not store.has_staged_files()


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("damage", [b"", b"cut", b"\0" * 40, None])
def test_an_answer_that_did_not_survive_is_none(
    tmp_path: Path, number: int, damage: bytes | None
) -> None:
    """What a power cut left of an answer, or of one of its images, is never taken for the answer."""
    store = OutputFolder(tmp_path)
    file = kept(store, b"first", b"second")[number]
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    assert store.journaled_answer("robot") is None


# --- files that others change -----------------------------------------------------------------------------------------


def test_a_manifest_that_is_edited_meanwhile(tmp_path: Path) -> None:
    """A line that changes before its turn stops the run with 5 and is named; what was in flight is written, and the next run goes on."""
    write_jobs(tmp_path, 9)
    path = tmp_path / "jobs.jsonl"
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.7)) as server:
        process = started(tmp_path, server, stderr=subprocess.PIPE)
        wait_for_requests(server, 3)
        with path.open(
            "r+b"
        ) as file:  # in place: a file of the same name would not be the one that is open
            data = (
                file.read().replace(b"Number n5", b"Edited n5").replace(b"Number n6", b"Edited n6")
            )
            file.seek(0)
            file.write(data)
        words = process.communicate(timeout=20)[1].decode()
        assert process.returncode == 5, words
        assert "jobs.jsonl:6: was edited during the run" in words
        assert run(tmp_path, server.base_url).code == 0
        assert sorted(sent(server)) == [f"n{number}" for number in range(9)]


@pytest.mark.parametrize(
    "tail",
    [b'{"id": "n1", "sta', bytes(500), b"\x00\xff\xfe" * 9 + b"\n", b'{"name": "not ours"}\n'],
    ids=["torn", "zeros", "binary", "foreign"],
)
def test_a_damaged_end_costs_nothing(tmp_path: Path, server: Simulator, tail: bytes) -> None:
    """Whatever is at the end of the rows is cut off, kept beside and told in one line; nothing is sent again."""
    write_jobs(tmp_path, 2)
    assert run(tmp_path, server.base_url).code == 0
    path = tmp_path / "jobs.out/results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    ended = run(tmp_path, server.base_url)
    assert ended.code == 0, ended.err
    assert "its end was damaged and is repaired" in ended.err
    assert path.read_bytes() == whole
    assert (tmp_path / "jobs.out/.gemini_batch/torn-results.1").read_bytes() == tail
    assert len(list(sent(server))) == 2


def test_a_broken_line_in_the_middle_is_refused(tmp_path: Path, server: Simulator) -> None:
    """A damaged row before others is not guessed at: exit 8 with its place, nothing sent, nothing changed."""
    write_jobs(tmp_path, 3)
    assert run(tmp_path, server.base_url).code == 0
    path = tmp_path / "jobs.out/results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + lines[1][:40] + b"~" * (len(lines[1]) - 41) + b"\n" + lines[2]
    path.write_bytes(damaged)
    ended = run(tmp_path, server.base_url)
    assert (ended.code, ended.is_clean) == (8, True)
    assert "results.jsonl:2: not a row" in ended.err
    assert path.read_bytes() == damaged
    assert len(list(sent(server))) == 3
