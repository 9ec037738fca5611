from pathlib import Path

import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.batch_schedule import BatchSchedule
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.faults import parse_faults
from gemini_batch.simulator.server import Simulator
from tests.loopback.simulator.client import FLASH_25, calling


async def test_marker_for_the_first_times() -> None:
    """`x2` is the first two times, for each request by itself; then it is answered."""
    async with calling() as caller:
        first = [(await caller.ask("a [[fault:503 x2]]")).status for _ in range(3)]
        other = (await caller.ask("b [[fault:503 x2]]")).status
    assert (first, other) == ([503, 503, 200], 503)


async def test_markers_in_a_row() -> None:
    """Of several markers the first that is not used up counts."""
    async with calling() as caller:
        found = [
            (
                await caller.ask("a [[fault:503 x1]] [[fault:429-minute x2]] [[fault:no-image x1]]")
            ).status
            for _ in range(5)
        ]
    assert found == [503, 429, 429, 200, 200]


async def test_marker_is_not_drawn() -> None:
    """The marker is no part of the words that come back."""
    async with calling() as caller:
        got = await caller.ask("A robot [[fault:drafts]]")
    assert got.parts[-2]["text"].endswith(": A robot")


async def test_unknown_marker() -> None:
    """A fault that does not exist is a 400 that names those like it: a test with a slip must not pass."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:trikle]]")
    assert (got.status, "similar: trickle" in got.message) == (400, True)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (f"503 x{'9' * 10}", "fault '503': got x9999999999… as count; allowed: x0 to x999999999"),
        (
            f"503 x{'9' * 5000}",
            f"fault '503': got x{'9' * 20}… as count; allowed: x0 to x999999999",
        ),
        (
            "trickle=nan",
            "fault 'trickle=nan': got 'nan' as time; allowed: seconds, such as trickle=5",
        ),
        ("late=-1", "fault 'late=-1': got '-1' as time; allowed: seconds, such as late=5"),
        ("hang=inf", "fault 'hang=inf': got 'inf' as time; allowed: seconds, such as hang=5"),
    ],
    ids=lambda given: given[:20],
)
async def test_number_that_cannot_be(marker: str, words: str) -> None:
    """A count or a time that can't be is a 400 that says what is allowed."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{marker}]]")
    assert (got.status, got.message) == (400, f"simulator: {words}")


async def test_rates_follow_the_seed() -> None:
    """Rates hit the same requests again with the same seed, in any order of arrival, and about as many as asked."""

    async def run(seed: int, order: range) -> dict[int, int]:
        async with calling(rates={"503": 0.25, "500": 0.25}, seed=seed) as caller:
            return {number: (await caller.ask(f"job {number}")).status for number in order}

    first, backwards, other = (
        await run(1, range(60)),
        await run(1, range(59, -1, -1)),
        await run(2, range(60)),
    )
    assert first == backwards
    assert first != other
    assert 15 <= sum(status != 200 for status in first.values()) <= 45


async def test_a_retry_may_succeed() -> None:
    """A rate is drawn again each time that a request is sent."""
    async with calling(rates={"503": 0.5}) as caller:
        statuses = {(await caller.ask("x")).status for _ in range(20)}
    assert statuses == {200, 503}


async def test_rules_of_a_file(tmp_path: Path) -> None:
    """A file has rates and rules; the first rule that applies is taken."""
    file = tmp_path / "faults.toml"
    file.write_text(
        '[[rules]]\nfault = "429-day"\nmatch = "robot"\nskip = 1\ntimes = 2\n\n'
        f'[[rules]]\nfault = "404"\nmodel = "{FLASH_25}"\n\n[[rules]]\nfault = "500"\nfrom_s = 3600\n',
        encoding="utf-8",
    )
    async with calling(faults=file) as caller:
        robots = [(await caller.ask("a robot")).status for _ in range(4)]
        model = (await caller.ask("a cat", model=FLASH_25)).status
        before = (await caller.ask("a cat")).status
        caller.simulator.clock.advance(3600)
        after = (await caller.ask("a cat")).status
    assert (robots, model, before, after) == ([200, 429, 429, 200], 404, 200, 500)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[rates]\n5x3 = 0.1", "unknown fault '5x3'"),
        ("[rates]\n503 = 2", "allowed: a share from 0 to 1"),
        ("[rates]\n503 = 0.6\n500 = 0.6", "got 1.2 in sum"),
        ("[rates]\nno-range = 2", "rate of no-range: got 2; allowed: a share from 0 to 1"),
        ("[rates]\nno-rage = 1", "unknown fault 'no-rage'; similar: no-range"),
        ('[[rules]]\nfault = "no-range+503"', "unknown fault '503' of files and batches"),
        (
            '[[rules]]\nfault = "list-lag=x"',
            "got 'x' as time; allowed: seconds, such as list-lag=5",
        ),
        ("[rate]\n503 = 0.1", "unknown field 'rate'; known: rates, rules"),
        ('[[rules]]\nfault = "503"\ntime = 1', "unknown field 'time'"),
        ('[[rules]]\nmatch = "x"', "rule 1: needs a fault"),
        (
            '[[rules]]\nfault = "503"\ntimes = "2"',
            "rule 1, times: got '2'; allowed: a whole number, 0 or more",
        ),
        (
            '[[rules]]\nfault = "503"\nskip = -1',
            "rule 1, skip: got -1; allowed: a whole number, 0 or more",
        ),
        (
            '[[rules]]\nfault = "503"\n[[rules]]\nfault = "500"\nfrom_s = nan',
            "rule 2, from_s: got nan; allowed: seconds",
        ),
        ('[[rules]]\nfault = "503"\nmatch = "("', "rule 1, match: not a regular expression"),
        ("rates = 1", "rates is a table, written [rates]"),
        ("[rules]\nfault = 1", "rules are a list, written [[rules]]"),
        ("[", "faults.toml: is not TOML: "),
    ],
)
def test_bad_file(tmp_path: Path, content: str, words: str) -> None:
    """A file that is wrong is refused before anything listens, with its name and what is wrong."""
    file = tmp_path / "faults.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        Simulator(SimulatorConfig(faults=file))
    assert words in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there is one sentence."""
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        Simulator(SimulatorConfig(faults=tmp_path / "none.toml"))


def test_bad_time() -> None:
    """A time that is no number is refused."""
    with pytest.raises(ConfigError, match="allowed: seconds, such as trickle=5"):
        parse_faults("trickle=soon")


def test_rates_of_batches_follow_the_seed() -> None:
    """A rate of a fault of batches hits about as many as asked, the same ones with the same seed, each fault by itself."""
    rates = {"get-404": 0.3, "get-503": 0.9, "no-range": 1.0}

    def drawn(seed: int) -> list[set[str]]:
        schedule = BatchSchedule(seed, rates, [])
        return [{*schedule.draw(At.GET, f"batch {n}")} for n in range(400)]

    found = drawn(1)
    assert found == drawn(1)
    assert found != drawn(2)
    counts = [sum(name in each for each in found) for name in rates]
    assert 90 < counts[0] < 150
    assert 340 < counts[1] < 380
    assert counts[2] == 0  # it has another place
    assert {"get-404", "get-503"} in found
