"""The retry policy of the service tier flex."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.engine.retry import GIVE_UP, Decision, RetryAfter, RetryRules, follow_up
from gemini_batch.records import ApiError, Failure, FailureKind

BARE = ApiError(429, "RESOURCE_EXHAUSTED", None, "Resource exhausted, please try again later.")
SHED = {"503": ApiError(503, "UNAVAILABLE", None, "overloaded"), "a bare 429": BARE}
RULES = RetryRules(6)


def after(
    error: ApiError | Failure, attempt: int, *, is_flex: bool = True, chance: float = 0.5
) -> Decision:
    """Return what follows from an attempt of a call, in flex or not."""
    return follow_up(
        error, RULES, attempt=attempt, of_kind=1, random=lambda: chance, is_flex=is_flex
    )


@pytest.mark.parametrize("name", SHED)
def test_a_call_that_found_no_capacity_is_sent_for_a_quarter_of_an_hour(name: str) -> None:
    """Its waits together are 15 minutes in the mean; then the next run may try, and no other call is stopped."""
    waits_s = []
    for attempt in range(1, 36):
        decision = after(SHED[name], attempt)
        assert isinstance(decision, RetryAfter)
        assert not decision.pauses_model
        waits_s.append(decision.wait_s)
    assert 15 * 60 <= sum(waits_s) <= 20 * 60
    assert after(SHED[name], 36) == GIVE_UP


@pytest.mark.parametrize("name", SHED)
def test_another_tier_has_no_such_patience(name: str) -> None:
    """Six attempts are the last, as ever."""
    assert isinstance(after(SHED[name], 5, is_flex=False), RetryAfter)
    assert not isinstance(after(SHED[name], 6, is_flex=False), RetryAfter)


OTHERS: list[ApiError | Failure] = [
    ApiError(500, "INTERNAL", None, "x"),
    ApiError(504, "DEADLINE_EXCEEDED", None, "x"),
    ApiError(503, "", None, "<html>"),  # a gateway's: it may have been billed
    ApiError(400, "INVALID_ARGUMENT", None, "Flex API is not supported for model: x"),
    ApiError(429, "RESOURCE_EXHAUSTED", None, "x", 7.0),
    Failure(FailureKind.TIMEOUT, "x", may_be_billed=True),
    Failure(FailureKind.MALFORMED, "x", may_be_billed=True),
]


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: error.name)
@pytest.mark.parametrize("attempt", [1, 5, 6, 7])
def test_other_errors_are_followed_up_alike(error: ApiError | Failure, attempt: int) -> None:
    """Only what capacity explains is sent more often in flex."""
    assert after(error, attempt) == after(error, attempt, is_flex=False)


@given(st.integers(1, 35), st.floats(0, 1, exclude_max=True), st.floats(0, 10_000))
def test_a_wait_that_the_server_asks_for_is_kept(
    attempt: int, chance: float, asked_s: float
) -> None:
    """Within an hour, with a backoff of at most a minute on top."""
    error = ApiError(503, "UNAVAILABLE", None, "x", asked_s)
    decision = after(error, attempt, chance=chance)

    assert isinstance(decision, RetryAfter)
    assert min(asked_s, 3600.0) <= decision.wait_s <= min(asked_s, 3600.0) + 60.0
