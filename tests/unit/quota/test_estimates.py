from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.quota.estimates import ANSWERS, LARGER, UsageRatio

M, OTHER = "m", "other"


def test_the_most_of_the_last_answers_counts() -> None:
    """A call is expected to take as many times its estimate as the worst of its model's last answers, in tenths, rounded up."""
    excess = UsageRatio()
    assert excess.expected(M, 100) == 100
    excess.note(M, 100, 301)
    excess.note(M, 100, 110)
    assert (excess.expected(M, 100), excess.expected(M, 50)) == (310, 155)
    assert excess.expected(OTHER, 100) == 100
    for _ in range(ANSWERS - 1):
        excess.note(M, 100, 20)
    assert excess.expected(M, 100) == 110
    excess.note(M, 100, 20)
    assert excess.expected(M, 100) == 100


def test_a_short_prompt_tells_nothing_of_a_long_one() -> None:
    """What any prompt takes on top is many times the estimate of a few words, and next to nothing of a long text's."""
    excess = UsageRatio()
    excess.note(M, 2, 16)
    assert (
        excess.expected(M, 2),
        excess.expected(M, 2 * LARGER),
        excess.expected(M, 2 * LARGER + 1),
    ) == (16, 64, 9)
    excess.note(M, 0, 16)  # nothing to compare with


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**7)), max_size=60),
    st.integers(0, 10**6),
)
def test_it_is_never_less_than_the_estimate(answers: list[tuple[int, int]], estimated: int) -> None:
    """Whatever answers took, what was planned is reserved at least."""
    excess = UsageRatio()
    for estimate, used in answers:
        excess.note(M, estimate, used)
    assert excess.expected(M, estimated) >= estimated
