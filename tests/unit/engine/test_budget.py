from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.engine.budget import Budget, Reservation
from gemini_batch.records import Estimate

CALL = Estimate(10, 1120, cost_usd=0.13, extra_usd=0.01)


def settle(budget: Budget, reservation: Reservation, spent_usd: float) -> None:
    """End a call that cost so much."""
    reservation.spent_usd = spent_usd
    budget.settle(reservation)


def held(budget: Budget, estimate: Estimate = CALL) -> Reservation:
    """Hold money that is there."""
    found = budget.reserve("pro", estimate)
    assert found is not None
    return found


def test_what_is_reserved_is_not_there_for_the_next() -> None:
    """A call that is in flight counts with the most that it may cost, and the money that it leaves comes back."""
    budget = Budget(0.30)
    first, _ = held(budget), held(budget)
    assert budget.reserve("pro", CALL) is None
    settle(budget, first, 0.0)
    assert budget.reserve("pro", CALL) is not None


def test_a_dear_answer_makes_the_next_ones_dear() -> None:
    """After an answer at thrice its estimate, thrice the estimate is held."""
    budget = Budget(1.0)
    settle(budget, held(budget), 0.39)
    assert abs(budget.expected_usd("pro", CALL) - 0.39) < 1e-9


def test_dear_answers_are_found_out_by_few_calls() -> None:
    """Until an answer has told what one costs, as much is held as one can cost; each answer lets one more call trust them."""
    budget, thinks_long = (
        Budget(2.0),
        Estimate(10, 1120, cost_usd=0.13, extra_usd=0.01, max_extra_usd=0.40),
    )
    in_flight: list[Reservation] = []
    while (hold := budget.reserve("pro", thinks_long)) is not None:
        in_flight.append(hold)
    at_first = len(in_flight)
    while in_flight:
        settle(budget, in_flight.pop(0), 0.24)
        while (hold := budget.reserve("pro", thinks_long)) is not None:
            in_flight.append(hold)
    assert at_first == 3
    assert 2.0 - 0.24 < budget.spent_usd <= 2.0


def test_a_small_budget_is_used_one_call_at_a_time() -> None:
    """Money for an answer as foreseen, though not for one at worst, pays for a call that is alone."""
    budget, estimate = (
        Budget(0.30),
        Estimate(10, 1120, cost_usd=0.13, extra_usd=0.01, max_extra_usd=0.40),
    )
    first = held(budget, estimate)
    assert budget.reserve("pro", estimate) is None
    settle(budget, first, 0.131)
    settle(budget, held(budget, estimate), 0.131)
    assert budget.reserve("pro", estimate) is None


def test_one_model_tells_nothing_of_another() -> None:
    """What answers of a cheap model cost is not trusted for calls of a dear one."""
    budget, estimate = Budget(1.0), Estimate(10, 1120, cost_usd=0.13, max_extra_usd=0.40)
    cheap = Estimate(10, 1120, cost_usd=0.01)
    for _ in range(9):
        hold = budget.reserve("flash", cheap)
        assert hold is not None
        settle(budget, hold, 0.01)
    assert held(budget, estimate).usd == 0.53


def test_without_a_limit_everything_fits() -> None:
    """A run without `--max-cost` is never stopped by money."""
    budget = Budget(None)
    for _ in range(100):
        held(budget, Estimate(0, 0, cost_usd=1e9))


def test_whether_money_may_come_back() -> None:
    """It may as long as a call has not ended, also one that costs nothing."""
    budget, seen = Budget(1.0), []
    seen.append(budget.is_reserved)
    hold = held(budget, Estimate(0, 0, cost_usd=None))
    seen.append(budget.is_reserved)
    settle(budget, hold, 0.0)
    seen.append(budget.is_reserved)
    assert seen == [False, True, False]


@given(
    st.floats(0.01, 5),
    st.lists(st.tuples(st.floats(0.001, 1), st.floats(0, 1), st.integers(0, 5)), max_size=50),
)
def test_what_costs_no_more_than_was_held_never_passes_the_limit(
    max_usd: float, calls: list[tuple[float, float, int]]
) -> None:
    """In any order of holding and ending, what was spent and what is held stay within the limit."""
    budget, open_calls = Budget(max_usd), list[tuple[Reservation, float]]()
    for cost_usd, share, ending in calls:
        hold = budget.reserve(
            "pro",
            Estimate(0, 0, cost_usd=cost_usd, extra_usd=cost_usd / 10, max_extra_usd=cost_usd * 3),
        )
        if hold is not None:
            open_calls.append((hold, hold.usd * share))
        for _ in range(min(ending, len(open_calls))):
            settle(budget, *open_calls.pop())
        assert budget.spent_usd + budget.reserved_usd <= max_usd + 1e-9
