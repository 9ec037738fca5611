import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings

from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import DayClosed, Granted, Paused, ReserveResult
from gemini_batch.quota.shared import SharedLedger, project_of
from gemini_batch.quota.storage import LedgerStorage, MemoryStorage
from gemini_batch.records import Limits
from tests.ledgers import reconcile
from tests.unit.quota.contract import (
    CYCLE_S,
    NEXT_DAY,
    NOON,
    PICTURE,
    T0,
    LedgerContract,
    M,
    StorageContract,
    granted,
    requests_left,
)
from tests.unit.quota.files import RAM, ask, file, opened
from tests.unit.quota.test_model_quota import LIMITS, STEPS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a ledger that does not exist yet."""
    return tmp_path / "state" / "quota.sqlite"


class TestSqliteStorage(StorageContract):
    @pytest.fixture(autouse=True)
    def _closed(self, path: Path) -> Iterator[None]:
        self.opened = file(path)
        with closing(self.opened):
            yield

    def storage(self) -> LedgerStorage:
        """Return an empty one."""
        return self.opened


class TestSqliteLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _closed(self, path: Path) -> Iterator[None]:
        with ExitStack() as self.ledgers:
            self.path = path
            yield

    def make(self, limits: Limits) -> SharedLedger:
        """Return a ledger of the test's file."""
        return self.ledgers.enter_context(opened(self.path, limits))


# --- sharing --------------------------------------------------------------------------------------


def test_what_one_process_used_the_next_one_counts(path: Path) -> None:
    """Overlapping and later runs share the minute, the pause and the day."""
    limits = Limits(requests_per_min=3, requests_per_day=4)
    with opened(path, limits) as ours, opened(path, limits) as theirs:
        ask(ours, permits=2), ask(theirs)
        theirs.pause(M, T0 + 90.0, "the server asked for a pause", T0)
    with opened(path, limits) as later:
        assert Paused(T0 + 90.0, "the server asked for a pause") == ask(later, CYCLE_S)
        assert requests_left(later) == 1
        granted(ask(later, 90.0))
        assert DayClosed(NEXT_DAY, "4 requests a day") == ask(later, 91.0)


def test_quotas_of_others_are_apart(path: Path) -> None:
    """Another endpoint, project or model has a quota of its own in the same file."""
    limits = Limits(requests_per_day=1)
    with (
        opened(path, limits) as ours,
        opened(path, limits, project="another") as project,
        opened(path, limits, endpoint="https://another") as endpoint,
    ):
        granted(ask(ours))
        assert isinstance(ask(ours), DayClosed)
        granted(ask(project)), granted(ask(endpoint))
        granted(ours.reserve("another", PICTURE, 1, T0, NOON))


def test_project_is_no_key() -> None:
    """A key's project is a fingerprint that does not show the key; a scope that a person gave is taken as it is."""
    key = "AIza" + "x" * 35
    assert project_of(key) == "key-e92a1199406b"
    assert project_of(key) != project_of(key + "y")
    assert project_of(key, "studio") == "studio"


@settings(max_examples=25, deadline=None)
@given(limits=LIMITS, steps=STEPS)
def test_decides_as_the_memory_ledger_does(limits: Limits, steps: list[dict[str, Any]]) -> None:
    """Two processes on one file, in turns and started again at times, decide what one ledger in memory decides."""
    now_s, memory = T0, SharedLedger(MemoryStorage(), limits)
    with TemporaryDirectory(dir=RAM) as folder, ExitStack() as stack:
        ledgers = [stack.enter_context(opened(Path(folder) / "q", limits)) for _ in range(2)]
        for number, step in enumerate(steps):
            now_s += step["pass_s"]
            utc = NOON + timedelta(seconds=now_s - T0)
            if step["event"] == "store":
                ledgers[0].close()
                ledgers[0] = stack.enter_context(opened(Path(folder) / "q", limits))
            weights = Weights(tokens=step["tokens"], usd_micros=step["usd_micros"])
            results = list[ReserveResult]()
            for ledger in (memory, ledgers[number % 2]):
                results.append(ledger.reserve(M, weights, step["permits"], now_s, utc))
                if isinstance(result := results[-1], Granted) and step["settles"]:
                    reconcile(
                        ledger,
                        M,
                        result.grant,
                        tokens=step["tokens"] // 2,
                        usd_micros=2 * step["usd_micros"],
                    )
                if step["event"] in {"pause", "overrun"}:
                    ledger.pause(M, now_s + 5.0, "why", now_s, overrun=step["event"] == "overrun")
                if isinstance(result, Granted) and step["event"] == "give back":
                    ledger.refund(M, result.grant)
            assert results[0] == results[1]


def test_a_pause_in_the_way_narrows_no_guard(path: Path) -> None:
    """What is not granted changes nothing: a ledger in memory, and one that does not write it down, decide alike ever after."""
    limits = Limits(requests_per_min=1, usd_per_10min=0.2)
    dear, soon = Weights(usd_micros=134_000), T0 + 6.0
    memory = SharedLedger(MemoryStorage(), limits)
    with opened(path, limits) as ledger:
        results: list[list[ReserveResult]] = [[], []]
        both: tuple[SharedLedger, SharedLedger] = (memory, ledger)
        for found, each in zip(results, both, strict=True):
            granted(each.reserve(M, dear, 1, T0, NOON))
            each.pause(M, T0, "too many", T0, overrun=True)
            granted(
                each.reserve(M, dear, 1, soon, NOON)
            )  # ten minutes ahead, where the guard is to be narrower
            each.pause(M, soon + 5.0, "wait", soon)
            assert isinstance(each.reserve(M, PICTURE, 1, soon, NOON), Paused)
            each.pause(M, soon + 5.0, "too many", soon, overrun=True)
            found.append(each.reserve(M, PICTURE, 1, soon + 6.0, NOON))
    assert results[0] == results[1]


def test_threads_share_a_ledger(path: Path) -> None:
    """Many threads may use one ledger at a time: each grant is counted once."""
    limits = Limits(requests_per_day=120, tokens_per_min=1000)
    with opened(path, limits) as ledger:

        def work() -> None:
            for _ in range(10):
                grant = granted(ask(ledger, weights=Weights(tokens=2))).grant
                reconcile(ledger, M, grant, tokens=1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        used = {entry.bound.label: entry.used for entry in ledger.used(M, T0, NOON)}

    assert (used["120 requests a day"], used["1,000 tokens a minute"]) == (80, 80)


# --- no more writing than needed ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "writes"),
    [
        (Limits(requests_per_min=60, requests_per_day=9), False),
        (Limits(tokens_per_min=100), True),
        (Limits(usd_per_10min=1.0), True),
        (Limits(usd_per_day=1.0), True),
    ],
    ids=["rpm, rpd", "tpm", "usd in ten minutes", "usd a day"],
)
def test_corrects_only_where_something_is_counted(path: Path, limits: Limits, writes: bool) -> None:  # noqa: FBT001 # a table
    """Without a limit on tokens or dollars, settling does not touch the file; nor when the estimate was right."""
    with opened(path, limits) as ledger:
        grant = granted(ask(ledger, weights=Weights(tokens=9, usd_micros=9))).grant
        before = path.read_bytes()
        reconcile(ledger, M, grant, tokens=9, usd_micros=9)
        assert path.read_bytes() == before
        reconcile(ledger, M, grant, tokens=5, usd_micros=5)

    assert (path.read_bytes() != before) == writes
