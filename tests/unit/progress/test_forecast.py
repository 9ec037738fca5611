import pytest

from gemini_batch.progress import messages
from gemini_batch.progress.forecast import Course, Forecast, Pace, forecast, horizon_s
from gemini_batch.quota.limits import Weights, duration
from gemini_batch.records import Limits
from tests.unit.progress.builders import NOON, used

FREE = Limits(requests_per_min=15, requests_per_day=1500)
PICTURE = Weights(tokens=10, usd_micros=134_000)


def course(left: int, **changes: object) -> Course:
    """Return the course of a model of which nothing else is known."""
    given = {
        "left": left,
        "unsent": left,
        "weights": PICTURE,
        "sent": (0, 0.0),
        "ended": 0,
        "used": (),
    } | changes
    return Course(**given)  # type: ignore[arg-type]


def said(found: Forecast, left: int) -> str:
    """Return a forecast as it is said at noon."""
    return messages.eta(found, left, NOON)


# --- the windows ------------------------------------------------------------------------------------------------------


def test_before_the_first_answers_it_is_what_the_quota_takes_at_the_least() -> None:
    """Nothing is promised while nobody knows how fast answers come."""
    found = forecast([course(300)], FREE)
    assert found == Forecast(duration(300, PICTURE, FREE).sending_s, is_least=True)
    assert said(found, 300) == "at least 20 min"


@pytest.mark.parametrize("since_s", [10.0, 30.0, 60.0])
def test_a_window_that_is_full_is_waited_for(since_s: float) -> None:
    """Fifteen calls left of a minute that is full go when it has passed, not at the pace of its first seconds."""
    found = forecast([course(15, sent=(15, since_s), ended=15)], FREE)
    assert found.ends_in_s == pytest.approx(duration(30, PICTURE, FREE).sending_s - since_s)


def test_a_server_that_is_slower_than_the_quota_sets_the_time() -> None:
    """With 10 answers in two minutes, 50 more take ten."""
    found = forecast([course(50, sent=(10, 120.0), ended=10)], FREE)
    assert found.ends_in_s == pytest.approx(600.0)


def test_the_last_answer_takes_its_time() -> None:
    """What is sent last is answered later than it is sent."""
    answered = course(15, sent=(15, 30.0), ended=15)
    late = course(15, sent=(15, 30.0), ended=15, latency_s=20.0)
    assert forecast([late], FREE).ends_in_s == pytest.approx(
        (forecast([answered], FREE).ends_in_s or 0.0) + 20.0
    )


def test_models_do_not_wait_for_each_other() -> None:
    """Each has a quota of its own: the run takes as long as the slower one."""
    slow, fast = course(30, sent=(10, 60.0), ended=10), course(5, sent=(10, 60.0), ended=10)
    assert forecast([slow, fast], FREE) == forecast([slow], FREE)


def test_a_run_that_has_nothing_left_is_done() -> None:
    """Then nothing is to be waited for."""
    assert said(forecast([course(0)], FREE), 0) == "all are done"


# --- the day ----------------------------------------------------------------------------------------------------------


def test_a_day_that_does_not_suffice_is_said() -> None:
    """When today takes 1,180 of 1,500 calls, the time says until when, how many are left, and when the next day begins."""
    today = used(FREE, 15, 320, resets_in_s=20 * 3600)
    found = forecast([course(1500, sent=(60, 180.0), ended=60, used=today)], FREE)
    assert found.left_over == 320
    assert found.ends_in_s is None
    assert said(found, 1500) == "today until 13:20, then 320 left tomorrow · from Mon 08:00"


def test_more_days_than_one_are_counted() -> None:
    """Three thousand calls over after today are two more days."""
    today = used(FREE, 15, 1500, resets_in_s=20 * 3600)
    found = forecast([course(3000, sent=(60, 180.0), ended=60, used=today)], FREE)
    assert (
        said(found, 3000)
        == "today's quota is used up, then 3,000 left over 2 days · from Mon 08:00"
    )


def test_a_run_that_waits_for_the_reset_says_when_it_ends() -> None:
    """With `--wait-for-reset` the end is on the next day."""
    today = used(FREE, 15, 1200, resets_in_s=20 * 3600)
    found = forecast(
        [course(315, sent=(60, 180.0), ended=60, used=today)], FREE, waits_for_reset=True
    )
    assert (
        said(found, 315)
        == "today until 12:20, then 15 left tomorrow · from Mon 08:00 to about Mon 08:00"
    )


def test_a_day_that_ends_before_its_quota_does_binds_nothing() -> None:
    """Ten minutes before midnight, a day with room for an hour is no reason to stop."""
    today = used(FREE, 15, 600, resets_in_s=600)
    found = forecast([course(1000, sent=(45, 180.0), ended=45, used=today)], FREE)
    assert found.closes_in_s is None
    assert said(found, 1000) == "about 1 h 10 min, until 13:07"


def test_dollars_of_the_day_bind_as_well() -> None:
    """A limit in dollars takes as many calls as it has room for, at what an average one costs."""
    limits = Limits(usd_per_day=13.4)
    today = used(limits, 12_060_000)
    found = forecast([course(20, sent=(60, 60.0), ended=60, used=today)], limits)
    assert (found.left_over, found.days_more) == (10, 1)


# --- of late ----------------------------------------------------------------------------------------------------------


def test_of_late_is_some_turns_of_the_longest_window() -> None:
    """A minute's quota is looked at over three minutes, one of dollars in ten minutes over half an hour."""
    assert horizon_s(FREE) == pytest.approx(3 * 61.25)
    assert horizon_s(Limits(usd_per_10min=10.0)) == pytest.approx(3 * 612.5)
    assert horizon_s(Limits(requests_per_min=15, minute_s=6)) == 60.0


def test_a_pace_forgets_what_is_long_ago() -> None:
    """Only the horizon counts, in a bounded number of numbers."""
    pace = Pace(60.0)
    for second in range(1000):
        pace.add(float(second))
    assert pace.recent(999.0) == (60, 59.0)
    assert len(pace._counts) <= 240
    assert pace.recent(5000.0) == (0, 0.0)
