from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.quota.limits import Weights
from gemini_batch.quota.results import UNKNOWN, Granted, Used
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.quota.utilization import Utilization, WindowUse
from gemini_batch.records import Limits
from tests.virtual.clock import NOON_UTC

MODEL = "a-model"


def used_up(limits: Limits, pauses_s: list[float], tokens: int = 7) -> list[WindowUse]:
    """Send as soon as the ledger lets, after each of these pauses, and return what came of it."""
    ledger, found, now_s = SharedLedger(MemoryStorage(), limits), Utilization(limits), 0.0

    def utc() -> datetime:
        return NOON_UTC + timedelta(seconds=now_s)

    for pause_s in pauses_s:
        now_s += pause_s
        verdict = ledger.reserve(MODEL, Weights(tokens=tokens), 1, now_s, utc())
        if isinstance(verdict, Granted):
            now_s = max(now_s, verdict.grant.at_s)
            found.sent(MODEL, now_s, utc())
            found.answered(MODEL, tokens=tokens, usd_micros=0)
    return found.windows(lambda model: ledger.used(model, now_s, utc()))


@given(
    st.lists(st.floats(0, 90), min_size=1, max_size=60),
    st.integers(1, 20),
    st.integers(7, 60),
    st.integers(1, 50),
)
def test_a_quota_that_is_held_is_never_used_by_more_than_all_of_it(
    pauses_s: list[float], rpm: int, tpm: int, rpd: int
) -> None:
    """However a run sends, its share of each window is above 0 and at most 1."""
    limits = Limits(requests_per_min=rpm, tokens_per_min=tpm, requests_per_day=rpd)
    windows = used_up(limits, pauses_s)
    assert [use.of for use in windows] == ["requests", "tokens", "requests"]
    assert all(0 < use.utilisation <= 1 for use in windows)


def test_what_is_sent_as_fast_as_it_goes_uses_nearly_all() -> None:
    """An hour of waiting for the quota alone uses at least 97 of 100."""
    (minute,) = used_up(Limits(requests_per_min=15), [0.0] * 15 * 60)
    assert minute.utilisation > 0.97


def test_a_run_past_midnight_may_use_two_days() -> None:
    """What a day's limit allows is counted on each Pacific date that the run sent on."""
    found = Utilization(Limits(requests_per_day=10))
    for minutes in range(0, 100, 20):
        found.sent(
            MODEL,
            minutes * 60.0,
            datetime(2026, 11, 23, 7, 0, tzinfo=UTC) + timedelta(minutes=minutes),
        )
    (day,) = found.windows(lambda _: None)
    assert (day.used_by_run, day.allowed, day.utilisation, day.left) == (5, 20, 0.25, None)


def test_a_clock_that_is_set_back_over_midnight_allows_no_less_than_a_day() -> None:
    """A run sends on one date at the least, whatever the wall clock says."""
    found = Utilization(Limits(requests_per_day=10))
    for days in (0, 3, -2):
        found.sent(MODEL, 0.0, NOON_UTC + timedelta(days=days))
    (day,) = found.windows(lambda _: None)
    assert (day.used_by_run, day.allowed, day.utilisation) == (3, 10, 0.3)


def test_what_the_ledger_lost_is_not_known() -> None:
    """After a ledger that was damaged a limit counts as used up; how much was used is null, and not that number."""
    limits = Limits(requests_per_day=10)
    bound = SharedLedger(MemoryStorage(), limits).used(MODEL, 0.0, NOON_UTC)[4].bound
    found = Utilization(limits)
    found.sent(MODEL, 0.0, NOON_UTC)
    (day,) = found.windows(lambda _: (Used(bound, UNKNOWN),))
    assert (day.used, day.left) == (None, None)


def test_answers_to_what_an_earlier_run_sent_are_no_use_of_this_one() -> None:
    """An answer that a killed run had kept is counted by no limit of the run that finds it."""
    found = Utilization(Limits(tokens_per_min=10))
    found.answered(MODEL, tokens=5, usd_micros=0)
    assert found.windows(lambda _: None) == []
