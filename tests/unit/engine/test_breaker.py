from math import inf

import pytest

from gemini_batch.engine.breaker import (
    MODEL_FAILURES,
    MODEL_GIVES_UP_AFTER_S,
    SERVER_GIVES_UP_AFTER_S,
    CircuitBreaker,
    model_breaker,
    server_breaker,
)


def opened() -> CircuitBreaker:
    """Return a model's breaker that opened at 0 s."""
    breaker = model_breaker()
    for failure in range(1, MODEL_FAILURES + 1):
        assert breaker.ready_at_s == 0.0
        assert breaker.failed(0.0, "503") == (failure == MODEL_FAILURES)
    return breaker


def test_one_call_probes_after_each_delay_and_delays_grow() -> None:
    """In a quarter of an hour of failures nine calls probe, further and further apart."""
    breaker = opened()
    probed_s = []
    for now_s in range(900):
        if now_s >= breaker.ready_at_s:
            breaker.hand_out("call")
            assert breaker.allows("call", now_s)
            probed_s.append(now_s)
            assert breaker.failed(now_s, "503")
            breaker.release("call")
    assert probed_s == [15, 45, 105, 225, 345, 465, 585, 705, 825]


def test_a_success_closes_it() -> None:
    """Fewer failures in a row do not open it, and after a success the count and the delays start again."""
    breaker = opened()
    breaker.hand_out("call")
    assert breaker.failed(15.0, "503")
    assert breaker.ready_at_s == inf
    assert breaker.succeeded()
    assert (breaker.ready_at_s, breaker.reason, breaker.succeeded()) == (0.0, "", False)
    for _ in range(MODEL_FAILURES):
        breaker.failed(20.0, "500")
    assert (breaker.ready_at_s, breaker.reason) == (35.0, "500")


def test_open_it_allows_no_call_and_half_open_one() -> None:
    """Closed, every call may be sent; open, none; half-open, the first to ask, until it has ended."""
    breaker = server_breaker(lambda: 0.5)
    assert breaker.allows("a", 0.0)
    assert breaker.allows("b", 0.0)
    breaker.failed(0.0, "refused")
    assert (breaker.ready_at_s, breaker.left_s(0.25)) == (1.0, 0.75)
    assert not breaker.allows("a", 0.9)
    assert [breaker.allows(call_id, 1.0) for call_id in "abab"] == [True, False, True, False]
    breaker.release("b")
    assert not breaker.allows("b", 1.0)
    breaker.release("a")
    assert [breaker.allows(call_id, 1.0) for call_id in "bab"] == [True, False, True]
    breaker.succeeded()
    assert breaker.allows("a", 1.0)


def test_a_call_that_was_handed_out_before_may_probe_first() -> None:
    """While another call was handed out to probe and waits, no third one is handed out until both have ended."""
    breaker = server_breaker(lambda: 0.5)
    breaker.failed(0.0, "refused")
    breaker.hand_out("probe")
    assert breaker.ready_at_s == inf
    assert breaker.allows("early", 2.0)
    assert not breaker.allows("probe", 2.0)
    breaker.release("probe")
    assert breaker.ready_at_s == inf
    breaker.release("early")
    assert breaker.ready_at_s == 1.0


def test_failures_within_a_delay_are_one_round() -> None:
    """Calls that were in flight together and fail together extend nothing; the next round waits longer."""
    breaker = server_breaker(lambda: 0.5)
    assert [breaker.failed(at_s, "refused") for at_s in (10.0, 10.0, 10.9)] == [True, False, False]
    assert breaker.ready_at_s == 11.0
    assert breaker.failed(11.0, "refused")
    assert breaker.ready_at_s == 13.0


@pytest.mark.parametrize(
    ("breaker", "gives_up_after_s"),
    [(opened(), MODEL_GIVES_UP_AFTER_S), (server_breaker(lambda: 0.0), SERVER_GIVES_UP_AFTER_S)],
    ids=["model", "server"],
)
def test_it_is_exhausted_in_the_end(breaker: CircuitBreaker, gives_up_after_s: float) -> None:
    """After its time without a success it is not waited for in this run; a success starts the time again."""
    breaker.failed(0.0, "down")
    assert breaker.exhausted_after_s(gives_up_after_s - 1) is None
    assert breaker.exhausted_after_s(gives_up_after_s) == gives_up_after_s
    breaker.succeeded()
    assert breaker.exhausted_after_s(gives_up_after_s) is None
