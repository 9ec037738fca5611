import errno
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.engine import disk_space
from gemini_batch.engine.disk_space import DiskReservations
from gemini_batch.simulator import Simulator, SimulatorConfig
from gemini_batch.simulator.server import Simulator as Server
from tests.simulated import simulator
from tests.torture.commands import Ended, command, rows, run, sent, write_jobs
from tests.torture.desk import ROOT

CALLS = 24


class FaultyDisk:
    """Lets some deeds on files of a kind pass, and refuses all that follow."""

    def __init__(
        self, patch: pytest.MonkeyPatch, deed: str, place: str, error: int, passes: int
    ) -> None:
        self._place = place
        self._error = error
        self._left = passes
        self._paths: dict[int, str] = {}
        opens, does = os.open, getattr(os, deed)

        def opened(path: Any, *arguments: Any, **options: Any) -> int:
            place = f"{self._paths.get(options.get('dir_fd', -1), '')}/{path}"
            if deed == "open":
                self._meet(place)
            descriptor = opens(path, *arguments, **options)
            self._paths[descriptor] = place
            return descriptor

        def done(target: Any, *arguments: Any, **options: Any) -> Any:
            folder = self._paths.get(options.get("dst_dir_fd", -1), "")
            self._meet(
                self._paths.get(target, "")
                if isinstance(target, int)
                else f"{target} {folder} {arguments}"
            )
            return does(target, *arguments, **options)

        if deed != "open":
            patch.setattr(os, deed, done)
        patch.setattr(os, "open", opened)

    def _meet(self, path: str) -> None:
        if self._place in path:
            self._left -= 1
            if self._left < 0:
                raise OSError(self._error, os.strerror(self._error))


def check_stopped(ended: Ended) -> None:
    """Exit 8, with one sentence that says why, and what to run last."""
    assert ended.code == 8, ended.err
    assert ended.is_clean
    assert len([line for line in ended.err.splitlines() if line.startswith("stopping: ")]) == 1, (
        ended.err
    )
    assert ended.err.splitlines()[-1].startswith("run again to continue: "), ended.err


def check_goes_on(folder: Path, server: Server, ids: list[str], *, at_most_again: int) -> None:
    """Run again on a disk that is well: what has its row is not sent, all ends, and all is as the rows say."""
    done = {row["id"] for row in rows(folder)}
    before = Counter(sent(server))
    ended = run(folder, server.base_url)
    assert ended.code == 0, ended.err
    after = Counter(sent(server))
    assert not [call_id for call_id in done if after[call_id] != before[call_id]]
    assert sum(after.values()) <= len(ids) + at_most_again, after
    newest = {row["id"]: row["status"] for row in rows(folder)}
    assert newest == dict.fromkeys(ids, "succeeded")
    verified = command("verify", str(folder / "jobs.out"))
    assert verified.code == 0, verified.out


@pytest.mark.parametrize(
    ("deed", "place", "error", "passes", "lost"),
    [
        ("open", "incoming/", errno.EMFILE, 9, 4),
        ("write", "incoming/", errno.ENOSPC, 9, 4),
        ("write", "incoming/", errno.EIO, 9, 4),
        ("write", "inflight", errno.ENOSPC, 9, 0),
        ("write", "results.jsonl", errno.ENOSPC, 9, 0),
        ("rename", "images", errno.EIO, 9, 0),
        ("fsync", "images", errno.EIO, 3, 0),
        ("fdatasync" if hasattr(os, "fdatasync") else "fsync", "results.jsonl", errno.EIO, 1, 0),
        ("pwrite", "durable", errno.ENOSPC, 2, 0),
    ],
)
def test_a_disk_that_fails_stops_the_sending(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    *,
    deed: str,
    place: str,
    error: int,
    passes: int,
    lost: int,
) -> None:
    """Whatever the disk refuses, the run ends with 8 before the manifest does, and the next one goes on; an answer whose bytes are there is not
    sent again.
    """
    ids = write_jobs(tmp_path, CALLS)
    with monkeypatch.context() as patch:
        FaultyDisk(patch, deed, place, error, passes)
        check_stopped(run(tmp_path, server.base_url))
    assert len(list(sent(server))) < CALLS
    check_goes_on(tmp_path, server, ids, at_most_again=lost)


def test_a_folder_that_vanishes_stops_the_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is moved away while a run goes on ends it with 8, and what it came to and what to run next is said all the same; moved
    back, the next run goes on.
    """
    ids, out = write_jobs(tmp_path, CALLS), tmp_path / "jobs.out"
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.02)) as server:
        rename, left = os.rename, [5]

        def vanishing(*arguments: Any, **options: Any) -> None:
            rename(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                rename(out, tmp_path / "elsewhere")

        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", vanishing)
            ended = run(tmp_path, server.base_url)
        assert ended.code == 8, ended.err
        assert ended.is_clean
        assert "Errno" not in ended.err
        *_, came_to, advice = ended.err.splitlines()
        assert f" of {CALLS} left" in came_to, ended.err
        assert advice.startswith("run again to continue: "), ended.err
        assert not out.exists(), "something was written where the folder had been"
        (tmp_path / "elsewhere").rename(out)
        check_goes_on(tmp_path, server, ids, at_most_again=8)


@pytest.mark.parametrize("name", ["status", "verify", "gallery"])
def test_a_file_that_cannot_be_read_is_no_bug(tmp_path: Path, name: str) -> None:
    """What the system says of a file is told with its name, and ends the command with 8."""
    (tmp_path / "jobs.out/results.jsonl").mkdir(parents=True)
    ended = command(name, str(tmp_path / "jobs.out"))
    assert (ended.code, ended.is_clean) == (8, True), ended.err
    assert ended.err.endswith(": Is a directory\n")


@pytest.mark.parametrize(("most", "codes"), [(13, {8}), (16, {0, 8}), (31, {0})])
def test_few_open_files_are_few_in_flight_and_too_few_a_sentence(
    tmp_path: Path, most: int, codes: set[int]
) -> None:
    """With a low limit of open files fewer calls are in flight; with one that is too low for a single one the run ends with 8 and says so."""
    ids = write_jobs(tmp_path, 6)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.1)) as server:
        flags = [
            "--base-url",
            server.base_url,
            "--rpm",
            "60000",
            "--rpd",
            "1000000",
            "--concurrency",
            "20",
        ]
        command_line = [
            sys.executable,
            "-m",
            "gemini_batch",
            "run",
            str(tmp_path / "jobs.jsonl"),
            *flags,
        ]
        found = subprocess.run(
            command_line,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limited,
            timeout=60,
        )
        ended = Ended(found.returncode, found.stdout, found.stderr)
        assert ended.code in codes, ended
        assert ended.is_clean
        assert f"{most} files may be open (ulimit -n): at most 1 call in flight" in ended.err
        assert ended.code == 0 or "open files" in ended.err
        check_goes_on(tmp_path, server, ids, at_most_again=1)


# --- room -------------------------------------------------------------------------------------------------------------


def free_bytes(monkeypatch: pytest.MonkeyPatch, size_bytes: Callable[[], int]) -> list[int]:
    """Have the disk say that so much is free; return a list that grows with each question."""
    asked: list[int] = []

    def statvfs(_path: Any) -> os.statvfs_result:
        asked.append(size_bytes())
        return os.statvfs_result((1, 1, 0, 0, asked[-1], 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    return asked


@pytest.mark.promise("kept")
def test_a_disk_without_room_costs_nothing(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the next answer may not fit nothing is sent: exit 8, and the sentence says how much there is and is needed."""
    ids = write_jobs(tmp_path, 3, image_size="4K")
    with monkeypatch.context() as patch:
        free_bytes(patch, lambda: 50_000_000)
        ended = run(tmp_path, server.base_url)
    check_stopped(ended)
    assert (
        "the disk has 50 MB left, and the answers in flight and the next one may need 75 MB: free some space"
        in ended.err
    )
    assert list(sent(server)) == []
    check_goes_on(tmp_path, server, ids, at_most_again=0)


def test_a_disk_that_fills_up_stops_the_sending(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in flight has its room: it drains, and is written, when there is none for the next one."""
    ids = write_jobs(tmp_path, CALLS)
    with monkeypatch.context() as patch:
        patch.setattr(disk_space, "LOOK_EVERY_S", 0.0)
        free_bytes(patch, lambda: 100_000_000 if len(server.audit.entries) < 8 else 12_000_000)
        check_stopped(run(tmp_path, server.base_url))
    assert 8 <= len(rows(tmp_path)) == len(list(sent(server))) < CALLS
    check_goes_on(tmp_path, server, ids, at_most_again=0)


def test_a_disk_with_little_room_has_less_in_flight(
    tmp_path: Path, server: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all answers do not fit at a time, but some do, fewer calls are in flight: the run ends, and says so once."""
    write_jobs(tmp_path, CALLS)
    most = [0]
    with monkeypatch.context() as patch:
        patch.setattr(disk_space, "LOOK_EVERY_S", 0.0)
        free_bytes(patch, lambda: disk_space.SPARE_BYTES + 2 * disk_space.answer_bytes("1K"))
        reserve = DiskReservations.reserve

        def spy(space: DiskReservations, size: str) -> str:
            no_room = reserve(space, size)
            most[0] = max(most[0], space._reserved_bytes // disk_space.answer_bytes("1K"))
            return no_room

        patch.setattr(DiskReservations, "reserve", spy)
        ended = run(tmp_path, server.base_url)
    assert ended.code == 0, ended.err
    assert len(list(sent(server))) == CALLS
    assert ended.err.count("little disk space left, so fewer calls are in flight") == 1
    assert most == [2]


def test_room_that_others_took_while_a_call_waited_is_missed_before_it_is_sent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was set aside is held against the disk again when the moment to send has come."""
    now_s, free = [0.0], [disk_space.SPARE_BYTES + disk_space.answer_bytes("1K")]
    space = DiskReservations(tmp_path, lambda: now_s[0])
    free_bytes(monkeypatch, lambda: free[0])
    assert space.reserve("1K") == ""
    free[0] -= 1
    assert not space.has_shrunk()  # looked at a moment ago
    now_s[0] = 1.0
    assert space.has_shrunk()
    space.release("1K")
    assert not space.is_reserved
    assert "free some space" in space.reserve("1K")


def test_answers_in_flight_count_against_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No more room is promised than there is; what ended counts until the disk was asked again; it is asked once a second while there is plenty."""
    now_s = [0.0]
    space = DiskReservations(tmp_path, lambda: now_s[0])
    asked = free_bytes(
        monkeypatch, lambda: disk_space.SPARE_BYTES + 3 * disk_space.answer_bytes("1K")
    )
    assert [space.reserve("1K"), space.reserve("1K")] == ["", ""]
    space.release("1K")
    assert space.reserve("1K") == ""
    assert len(asked) == 1
    assert space.reserve("1K") == ""  # the disk says that the one that ended takes nothing
    assert len(asked) == 2
    assert "free some space" in space.reserve("1K")
    now_s[0] = 1.0
    space.release("1K")
    assert space.reserve("4K")
    assert space.reserve("1K") == ""


# --- a real small disk --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where the machine allows one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small disk on this machine: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_is_really_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk of 1 MB nothing is sent; were it sent all the same, the full disk ends the run with 8, and with room it goes on."""
    ids = write_jobs(small_disk, CALLS)
    with simulator(
        SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.02, image_bytes=100_000)
    ) as server:
        check_stopped(run(small_disk, server.base_url))
        assert list(sent(server)) == []
        with monkeypatch.context() as patch:
            patch.setattr(disk_space, "ANSWER_BYTES", {"1K": 0})
            patch.setattr(disk_space, "SPARE_BYTES", 0)
            ended = run(small_disk, server.base_url)
        assert ended.code == 8, ended.err
        assert ended.is_clean
        assert 0 < len(list(sent(server))) < CALLS
        subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
        check_goes_on(small_disk, server, ids, at_most_again=4)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_read_only_disk_is_a_sentence(small_disk: Path, server: Simulator) -> None:
    """A folder that can't be written ends the run with 8 before anything is sent, and with the path."""
    write_jobs(small_disk, 2)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    ended = run(small_disk, server.base_url)
    assert (ended.code, ended.is_clean) == (8, True)
    assert "can't be written: Read-only file system; choose another folder with --out" in ended.err
    assert list(sent(server)) == []
