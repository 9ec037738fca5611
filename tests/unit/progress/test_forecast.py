import pytest

from gemini_batch.progress import messages
from gemini_batch.progress.forecast import Forecast, ModelProgress, Pace, forecast, horizon_s
from gemini_batch.quota.limits import Weights, duration
from gemini_batch.records import Limits
from tests.unit.progress.builders import NOON, used

FREE = Limits(requests_per_min=15, requests_per_day=1500)
PICTURE = Weights(tokens=10, usd_micros=134_000)


def model(left: int, **changes: object) -> ModelProgress:
    """Return the progress of a model."""
    given = {
        "left": left,
        "unsent": left,
        "weights": PICTURE,
        "sent": (0, 0.0),
        "ended": 0,
        "used": (),
    } | changes
    return ModelProgress(**given)  # type: ignore[arg-type]


def eta(found: Forecast, left: int) -> str:
    """Return the text of a forecast at noon."""
    return messages.eta(found, left, NOON)


# --- windows ----------------------------------------------------------------------------------


def test_before_the_first_answers_the_quota_gives_a_lower_bound() -> None:
    """While the pace of answers is unknown, the forecast is marked as a minimum."""
    found = forecast([model(300)], FREE)
    assert found == Forecast(duration(300, PICTURE, FREE).sending_s, is_least=True)
    assert eta(found, 300) == "at least 20 min"


@pytest.mark.parametrize("since_s", [10.0, 30.0, 60.0])
def test_a_window_that_is_full_is_waited_for(since_s: float) -> None:
    """Fifteen calls after a full minute are sent when it is over, not at its initial pace."""
    found = forecast([model(15, sent=(15, since_s), ended=15)], FREE)
    assert found.ends_in_s == pytest.approx(duration(30, PICTURE, FREE).sending_s - since_s)


def test_a_server_that_is_slower_than_the_quota_sets_the_time() -> None:
    """With 10 answers in two minutes, 50 more take ten."""
    found = forecast([model(50, sent=(10, 120.0), ended=10)], FREE)
    assert found.ends_in_s == pytest.approx(600.0)


def test_the_last_answer_takes_its_time() -> None:
    """The latency of an answer is added to the time of sending."""
    answered = model(15, sent=(15, 30.0), ended=15)
    late = model(15, sent=(15, 30.0), ended=15, latency_s=20.0)
    assert forecast([late], FREE).ends_in_s == pytest.approx(
        (forecast([answered], FREE).ends_in_s or 0.0) + 20.0
    )


def test_models_do_not_wait_for_each_other() -> None:
    """Each has its own quota: the run takes as long as the slower one."""
    slow, fast = model(30, sent=(10, 60.0), ended=10), model(5, sent=(10, 60.0), ended=10)
    assert forecast([slow, fast], FREE) == forecast([slow], FREE)


def test_a_run_that_has_nothing_left_is_done() -> None:
    """There is nothing to wait for."""
    assert eta(forecast([model(0)], FREE), 0) == "all calls are done"


# --- the day ----------------------------------------------------------------------------------


def test_a_day_that_does_not_suffice_is_eta() -> None:
    """If today takes 1,180 of 1,500 calls: until when, how many are left, and when they continue."""
    today = used(FREE, 15, 320, resets_in_s=20 * 3600)
    found = forecast([model(1500, sent=(60, 180.0), ended=60, used=today)], FREE)
    assert found.left_over == 320
    assert found.ends_in_s is None
    assert eta(found, 1500) == "today until 13:20, then 320 left tomorrow · from Mon 08:00"


def test_more_days_than_one_are_counted() -> None:
    """Three thousand calls over after today are two more days."""
    today = used(FREE, 15, 1500, resets_in_s=20 * 3600)
    found = forecast([model(3000, sent=(60, 180.0), ended=60, used=today)], FREE)
    assert (
        eta(found, 3000) == "today's quota is used up, then 3,000 left over 2 days · from Mon 08:00"
    )


def test_a_run_that_waits_for_the_reset_says_when_it_ends() -> None:
    """With `--wait-for-reset` the end is on the next day."""
    today = used(FREE, 15, 1200, resets_in_s=20 * 3600)
    found = forecast(
        [model(315, sent=(60, 180.0), ended=60, used=today)], FREE, waits_for_reset=True
    )
    assert (
        eta(found, 315)
        == "today until 12:20, then 15 left tomorrow · from Mon 08:00 to about Mon 08:00"
    )


def test_a_day_that_ends_before_its_quota_does_binds_nothing() -> None:
    """Ten minutes before midnight, a quota for another hour is no reason to stop."""
    today = used(FREE, 15, 600, resets_in_s=600)
    found = forecast([model(1000, sent=(45, 180.0), ended=45, used=today)], FREE)
    assert found.closes_in_s is None
    assert eta(found, 1000) == "about 1 h 10 min, until 13:07"


def test_dollars_of_the_day_bind_as_well() -> None:
    """A limit in dollars allows as many calls as fit at the average cost."""
    limits = Limits(usd_per_day=13.4)
    today = used(limits, 12_060_000)
    found = forecast([model(20, sent=(60, 60.0), ended=60, used=today)], limits)
    assert (found.left_over, found.days_more) == (10, 1)


# --- horizon ----------------------------------------------------------------------------------


def test_the_horizon_is_three_turns_of_the_longest_window() -> None:
    """About three minutes, or half an hour with a limit in dollars per ten minutes."""
    assert horizon_s(FREE) == pytest.approx(3 * 61.25)
    assert horizon_s(Limits(usd_per_10min=10.0)) == pytest.approx(3 * 612.5)
    assert horizon_s(Limits(requests_per_min=15, minute_s=6)) == 60.0


def test_a_pace_forgets_what_is_long_ago() -> None:
    """Only events of the horizon count, and memory is bounded."""
    pace = Pace(60.0)
    for second in range(1000):
        pace.add(float(second))
    assert pace.recent(999.0) == (60, 59.0)
    assert len(pace._counts) <= 240
    assert pace.recent(5000.0) == (0, 0.0)
