import random

import pytest

from gemini_batch.catalog.observations import Observations


def observed(*values: float) -> Observations:
    """Return observations of these values."""
    found = Observations()
    for value in values:
        found.add(value)
    return found


def test_nothing_observed_is_what_was_expected() -> None:
    """Without values the expectation stands."""
    assert observed().mean(7.0) == 7.0


def test_a_few_values_change_little() -> None:
    """One strange answer is no reason to expect another."""
    assert observed(20.0).mean(10.0) == pytest.approx(10.5, abs=0.05)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.5, 4.0])
def test_values_that_contradict_the_expectation_replace_it(factor: float) -> None:
    """After twenty answers a table that is wrong counts next to nothing."""
    chance = random.Random(3)
    values = [factor * chance.uniform(0.9, 1.1) for _ in range(20)]
    assert observed(*values).mean(1.0) == pytest.approx(factor, abs=0.06)


@pytest.mark.parametrize("seed", range(40))
def test_chance_does_not_replace_a_good_expectation(seed: int) -> None:
    """Where the expectation is right, twenty scattered values leave it nearly as it is."""
    chance = random.Random(seed)
    values = [chance.uniform(0.5, 1.5) for _ in range(20)]
    own = abs(sum(values) / 20 - 1)
    assert abs(observed(*values).mean(1.0) - 1) <= max(own / 2, 1e-9) * 1.0001
