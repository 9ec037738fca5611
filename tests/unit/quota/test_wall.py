from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gemini_batch.quota.wall import Belief
from tests.unit.quota.contract import NOON, T0

FIRST = Belief.first("one", T0, NOON)
STRANGE = datetime(2030, 1, 1, 12, tzinfo=UTC)


def test_goes_along_with_the_wall_clock() -> None:
    """A wall clock that is slewed by seconds is followed, as far as it goes by and by."""
    belief = FIRST
    for hour in range(1, 20):
        now_s, utc = T0 + 3600 * hour, NOON + timedelta(hours=hour, seconds=4 * hour)
        belief = belief.at("one", now_s, utc)

        assert belief.utc(now_s) == utc


def test_a_jump_is_not_followed() -> None:
    """A wall clock that jumped is doubted, and the steady clock goes on with the time that was; back again, it is believed."""
    now_s, utc = T0 + 60, NOON + timedelta(seconds=60 + 3600)
    belief = FIRST.at("one", now_s, utc)

    assert belief.utc(now_s) == NOON + timedelta(seconds=60)
    assert belief.doubts(now_s, utc)
    assert not belief.doubts(now_s, utc - timedelta(seconds=3599))


def test_of_two_the_server_takes_the_nearer() -> None:
    """A server's Date decides between the wall clock and what was believed, and the loser is not asked about again."""
    now_s, jumped = T0 + 60, NOON + timedelta(hours=1)
    believed = NOON + timedelta(seconds=60)

    adopted = FIRST.agreed(jumped - timedelta(seconds=20), now_s, jumped)
    refuted = FIRST.agreed(believed - timedelta(seconds=20), now_s, jumped)

    assert (adopted.utc(now_s), adopted.is_sure) == (jumped, True)
    assert (refuted.utc(now_s), refuted.is_sure) == (believed, True)
    assert not refuted.doubts(now_s, jumped)
    assert refuted.doubts(now_s, jumped + timedelta(hours=1))


def test_a_server_alone_does_not_overrule_two() -> None:
    """A server's strange Date is nothing against the wall clock and the steady one that a server agreed with."""
    now_s, utc = T0 + 60, NOON + timedelta(seconds=60)
    sure = FIRST.agreed(utc, now_s, utc)

    assert sure.agreed(STRANGE, now_s, utc) == sure


def test_a_server_that_nobody_agrees_with_is_a_rival() -> None:
    """Against a wall clock that nothing speaks against, a strange Date is a doubt and no truth; a Date that agrees ends it."""
    now_s, utc = T0 + 60, NOON + timedelta(seconds=60)
    doubtful = FIRST.agreed(STRANGE, now_s, utc)

    assert (doubtful.utc(now_s), doubtful.is_sure) == (utc, False)
    assert doubtful.rivals(now_s + 9, utc + timedelta(seconds=9)) == (
        STRANGE + timedelta(seconds=9),
    )
    assert not doubtful.is_settled(now_s, utc)

    healed = doubtful.agreed(utc, now_s, utc)

    assert (healed.utc(now_s), healed.is_sure, healed.rivals(now_s, utc)) == (utc, True, ())
    assert healed.is_settled(now_s, utc)


def test_a_server_that_insists_is_believed() -> None:
    """A wall clock that was wrong from the start yields to a server whose clock was seen to go, and is asked about again."""
    belief, hour = FIRST, timedelta(hours=1)
    for seconds in (0, 5, 14):
        belief = belief.agreed(
            STRANGE + timedelta(seconds=seconds), T0 + seconds, NOON + timedelta(seconds=seconds)
        )
        assert not belief.is_sure

    belief = belief.agreed(STRANGE + hour, T0 + 3600, NOON + hour)

    assert (belief.utc(T0 + 3600), belief.is_sure) == (STRANGE + hour, True)
    assert belief.rivals(T0 + 3600, NOON + hour) == ()
    assert not belief.is_settled(T0 + 3600, NOON + hour)
    assert belief.agreed(NOON + hour, T0 + 3600, NOON + hour).utc(T0 + 3600) == NOON + hour


def test_a_server_whose_clock_stands_still_does_not_insist() -> None:
    """However often it says the same."""
    belief = FIRST
    for seconds in range(0, 7200, 10):
        belief = belief.agreed(STRANGE, T0 + seconds, NOON + timedelta(seconds=seconds))

    assert (belief.utc(T0), belief.is_sure) == (NOON, False)


def test_a_server_that_says_something_else_each_time_does_not_insist() -> None:
    """An hour of strange dates that do not agree with each other makes none of them true."""
    belief = FIRST
    for minute in range(120):
        belief = belief.agreed(
            STRANGE + timedelta(hours=minute), T0 + 60 * minute, NOON + timedelta(minutes=minute)
        )

    assert (belief.utc(T0), belief.is_sure) == (NOON, False)


@pytest.mark.parametrize("year", [1, 1970, 2019, 2100, 9999])
def test_what_cannot_be_is_no_witness(year: int) -> None:
    """A Date of long before this package or of the next century says nothing; a wall clock of such a time yields to a server."""
    never = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    broken = Belief.first("one", T0, never)

    assert FIRST.agreed(never, T0, NOON) == FIRST
    assert not FIRST.doubts(T0, never)
    assert not broken.is_settled(T0, never)
    if year < 2100:
        assert broken.agreed(NOON, T0, never).utc(T0) == NOON
    assert broken.at("one", T0 + 1, NOON).utc(T0 + 1) == NOON
    assert not broken.at("one", T0 + 1, NOON).is_sure


@pytest.mark.parametrize("offset_s", [1e300, 2.6e11, -1e300])
def test_no_belief_is_beyond_the_calendar(offset_s: float) -> None:
    """Whatever a file says was believed, it is a date, and the wall clock takes its place."""
    belief = replace(FIRST, offset_s=offset_s, rival_s=offset_s, refuted_s=offset_s, is_sure=True)

    assert 1970 <= belief.utc(T0).year <= 2100
    assert 1970 <= belief.earliest(T0).year <= 2100
    assert belief.at("one", T0, NOON).utc(T0) == NOON


def test_a_strange_server_after_a_reboot() -> None:
    """What was believed before is only the earliest that it can be: then the wall clock and the server are rivals."""
    utc = NOON + timedelta(hours=9)
    rebooted = FIRST.agreed(NOON, T0, NOON).at("two", 30.0, utc)

    doubtful = rebooted.agreed(STRANGE, 30.0, utc)

    assert (doubtful.utc(30.0), doubtful.is_sure) == (utc, False)
    assert doubtful.rivals(30.0, utc) == (STRANGE,)


def test_after_a_reboot_the_machine_was_off_for_unknown_time() -> None:
    """What is believed after a reboot is the last moment and the time since: the wall clock is doubted until a server is asked."""
    utc = NOON + timedelta(hours=9)
    belief = FIRST.at("two", 30.0, utc)

    assert (belief.era, belief.utc(30.0)) == (1, NOON + timedelta(seconds=30))
    assert belief.doubts(30.0, utc)
    assert FIRST.at("two", T0 + 500.0, utc).era == 1
    assert belief.agreed(utc, 31.0, utc + timedelta(seconds=1)).utc(31.0) == utc + timedelta(
        seconds=1
    )


def test_clocks_that_are_read_out_of_order_are_one() -> None:
    """A process that read its clock before another one, and came after it, does not begin an era; one that is hours behind does."""
    assert FIRST.at("one", T0 - 30, NOON - timedelta(seconds=30)).era == 0
    assert FIRST.at("one", T0 - 3600, NOON).era == 1
