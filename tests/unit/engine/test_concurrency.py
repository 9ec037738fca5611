from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.engine.concurrency import AdaptiveConcurrency


def test_an_episode_cuts_once() -> None:
    """Answers to requests that were sent before the cut are the same lesson; one that was sent after it is another."""
    flow = AdaptiveConcurrency(100)
    for _ in range(10):
        flow.overloaded(sent_s=1.0, now_s=5.0)
    assert flow.allowed == 80
    flow.overloaded(sent_s=6.0, now_s=9.0)
    assert flow.allowed == 64


def test_success_grows_it_by_one_a_round_up_to_the_concurrency() -> None:
    """As many successes as calls are in flight allow one more; never more than the run's own number."""
    flow = AdaptiveConcurrency(10)
    flow.overloaded(sent_s=0.0, now_s=1.0)
    assert flow.allowed == 8
    for _ in range(9):
        flow.succeeded()
    assert flow.allowed == 9
    for _ in range(1000):
        flow.succeeded()
    assert flow.allowed == 10


@given(st.integers(1, 200), st.lists(st.booleans()))
def test_it_stays_between_one_and_the_concurrency(most: int, answers: list[bool]) -> None:
    """Whatever comes, somebody may send, and no more than asked for."""
    flow = AdaptiveConcurrency(most)
    for now_s, is_good in enumerate(answers):
        if is_good:
            flow.succeeded()
        else:
            flow.overloaded(sent_s=now_s, now_s=now_s)
        assert 1 <= flow.allowed <= most
