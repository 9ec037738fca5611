"""Large files, half of which a forked process reads."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.config import Settings
from gemini_batch.errors import ManifestError, StorageError
from gemini_batch.output.paths import RESULTS
from gemini_batch.plan import build, halves
from gemini_batch.plan.halves import second_half
from gemini_batch.records import Limits, Status, Stop
from tests.builders import line_of, make_row

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere")

CONFIG = Settings("test", Limits(), "http://127.0.0.1:9", None, DEFAULT_MODEL, "key")
Job = dict[str, Any]


@pytest.fixture(autouse=True)
def _small_files_and_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork for any file, whatever threads other tests have left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(halves, "MIN_BYTES", 1)
    monkeypatch.setattr(halves, "_may_fork", lambda: True)


def plain_jobs(number: int = 40) -> list[Job]:
    """Return plain jobs of three models and three sizes; every second one has an id."""
    return [
        {
            "prompt": f"A robot {'x' * (each % 7)}{each}",
            "image_size": ("1K", "2K", "4K")[each % 3],
            "model": (DEFAULT_MODEL, "new-1", "new-2")[each * 3 // number],
        }
        | ({"id": f"robot-{each}"} if each % 2 else {})
        for each in range(number)
    ]


def planned(*, is_forked: bool) -> Iterator[Any]:
    """Yield all that is known of a manifest once it is planned, read by one process or by two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(halves, "_may_fork", lambda: is_forked)
        try:
            with build.build_plan(Path("jobs.jsonl"), Path("out"), CONFIG) as built:
                plan, manifest = built.plan, built._manifest
                yield from (manifest._offsets, manifest._hashes, manifest._lines, manifest._ranks)
                yield [manifest.read(index) for index in range(len(manifest._ranks))]
                yield plan.models, plan.totals, plan._variants, plan._model_of, plan._states
                yield [list(plan.pending(model)) for model in plan.models]
                yield built.duration, built.history.statuses, len(built.history._history)
        except (ManifestError, StorageError) as error:
            yield str(error), error.lines() if isinstance(error, ManifestError) else None


def check(jobs: list[Job | bytes], rows: list[bytes] | None = None) -> list[Any]:
    """Check that two processes plan a manifest as one does; return what is known of it."""
    lines = (job if isinstance(job, bytes) else orjson.dumps(job) for job in jobs)
    Path("jobs.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    if rows is not None:
        Path("out").mkdir(exist_ok=True)
        Path("out", RESULTS).write_bytes(b"".join(rows))
    one = list(planned(is_forked=False))
    assert list(planned(is_forked=True)) == one
    return one


def rows_of(jobs: list[Job], status: Callable[[int], Status]) -> list[bytes]:
    """Return rows of these jobs, each of its own request and endpoint but for every fifth."""
    check(list(jobs))
    with build.build_plan(Path("jobs.jsonl"), Path("nowhere"), CONFIG) as built:
        calls = [call for model in built.calls().values() for call in model]
    rows = []
    for number, call in enumerate(calls):
        assert not isinstance(call, Stop)
        row = orjson.loads(line_of(make_row(call.id, status(number)))) | {
            "request_sha256": call.request_sha256 if number % 5 else "0" * 64,
            "endpoint": CONFIG.endpoint,
        }
        rows.append(orjson.dumps(row) + b"\n")
    return rows


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the results of other processes that were used."""
    results: list[Any] = []
    result = halves.SecondHalf.result

    def counted(half: "halves.SecondHalf[Any]") -> Any:
        results.append(found := result(half))
        return found

    monkeypatch.setattr(halves.SecondHalf, "result", counted)
    return results


def test_two_processes_plan_what_one_plans(used: list[Any]) -> None:
    """Plain lines, rows of every status, and superseded rows give the same plan, and the halves are used."""
    jobs, statuses = plain_jobs(), list(Status)
    rows = rows_of(jobs, lambda number: statuses[number % len(statuses)])
    assert used.pop() is not None
    again = rows_of(jobs[:9], lambda _: Status.SUCCEEDED)
    used.clear()
    check(list(jobs), [*rows, *again])
    assert len(used) == 2
    assert None not in used


def test_repeated_lines_of_one_half_stay_there(used: list[Any]) -> None:
    """Equal lines without ids in one half are numbered in order."""
    check([*plain_jobs(), {"prompt": "x"}, {"prompt": "x"}])
    assert None not in used


LAST: dict[str, list[Job | bytes]] = {
    "an id of the first half": [{"id": "Robot-1", "prompt": "x"}],
    "a line of the first half": [
        {"prompt": "A robot 0", "image_size": "1K", "model": DEFAULT_MODEL}
    ],
    "a line that is not plain": [{"prompt": "x", "seed": 1}],
    "variants that have an id of the first half": [{"id": "first", "prompt": "x", "variants": 3}],
    "a wrong line": [{"prompt": ""}],
    "a line that can't be planned": [{"prompt": "x", "model": "?"}],
    "no JSON": [b"{"],
    "blank lines": [b"", b" ", {"prompt": "x"}, b""],
}


@pytest.mark.parametrize("name", LAST)
def test_what_one_process_cannot_know_is_found(name: str) -> None:
    """Equal ids in both halves, other lines and problems are the same, in the same order."""
    check([{"id": "first.2", "prompt": "x"}, *plain_jobs(), *LAST[name]])


@pytest.mark.parametrize("place", [0, 10, 38])
def test_a_damaged_row_is_named_as_ever(place: int) -> None:
    """A damaged row in either half is refused with its line."""
    jobs = plain_jobs()
    rows = rows_of(jobs, lambda _: Status.SUCCEEDED)
    rows[place] = b'{"id": 3}\n'
    assert f"results.jsonl:{place + 1}: not a row" in check(list(jobs), rows)[0][0]


def test_a_line_that_is_being_written_is_no_row() -> None:
    """A last row without its line break is left out in either process."""
    jobs = plain_jobs()
    check(list(jobs), [*rows_of(jobs, lambda _: Status.FAILED), b'{"id": '])


def test_work_that_fails_is_done_again() -> None:
    """A process that is killed, or whose work fails, gives no result."""
    path = Path("file")
    path.write_bytes(b"line\n" * 9)

    def die(_start_bytes: int) -> tuple[int, int]:
        os.kill(os.getpid(), signal.SIGKILL)
        return 1, 2

    def fail(_start_bytes: int) -> tuple[int, int]:
        raise KeyboardInterrupt

    def end_early(_start_bytes: int) -> tuple[Any, int]:
        return lambda: "is not sent", 2

    def count(start_bytes: int) -> tuple[int, int]:
        return start_bytes, 2

    for work, result in ((die, None), (fail, None), (end_early, None), (count, (25, 2))):
        with second_half(path, work) as half:
            assert half is not None
            assert half.start_bytes == 25
            assert half.result() == result


def test_no_process_more_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started, this one does all."""

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    path = Path("file")
    path.write_bytes(b"line\n" * 9)
    monkeypatch.setattr(os, "fork", refuse)
    with second_half(path, lambda start_bytes: (start_bytes,)) as half:
        assert half is None


def test_a_lock_does_not_outlive_its_holder() -> None:
    """The other process keeps no file open but its own: locks of a killed run are free at once."""
    path = Path("file")
    path.write_bytes(b"line\n" * 9)
    with (
        path.open("rb") as held,
        second_half(
            path, lambda _: tuple(file.name for file in Path("/proc/self/fd").iterdir())
        ) as half,
    ):
        assert half is not None
        assert str(held.fileno()) not in (half.result() or (str(held.fileno()),))


def test_nothing_is_forked_beside_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with a second thread, or with one processor, does all by itself."""
    monkeypatch.undo()
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert not halves._may_fork()
    finally:
        done.set()
        thread.join()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert not halves._may_fork()


def test_a_file_without_a_middle_is_read_by_one(tmp_path: Path) -> None:
    """A small file, a missing one, and one without a line break in its second half are read by one process."""
    path = tmp_path / "file"
    for content in (None, b"", b"x" * 99):
        if content is not None:
            path.write_bytes(content)
        with second_half(path, lambda start_bytes: (start_bytes,)) as half:
            assert half is None
