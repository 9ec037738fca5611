from datetime import timedelta

from gemini_batch.quota.wall import Belief
from tests.quota.contract import NOON, T0

FIRST = Belief.first("one", T0, NOON)


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
    """A server's strange Date is not believed against the wall clock and the steady one, but against one witness only it is."""
    now_s, utc = T0 + 60, NOON + timedelta(seconds=60)
    strange = NOON + timedelta(hours=5)
    sure = FIRST.agreed(utc, now_s, utc)

    assert sure.agreed(strange, now_s, utc) == sure
    assert FIRST.agreed(strange, now_s, utc).utc(now_s) == strange


def test_after_a_reboot_the_machine_was_off_for_unknown_time() -> None:
    """What is believed after a reboot is the last moment and the time since: the wall clock is doubted until a server is asked."""
    utc = NOON + timedelta(hours=9)
    belief = FIRST.at("two", 30.0, utc)

    assert (belief.era, belief.utc(30.0)) == (1, NOON + timedelta(seconds=30))
    assert belief.doubts(30.0, utc)
    assert FIRST.at("two", T0 + 500.0, utc).era == 1
    assert belief.agreed(utc, 31.0, utc + timedelta(seconds=1)).utc(31.0) == utc + timedelta(seconds=1)


def test_clocks_that_are_read_out_of_order_are_one() -> None:
    """A process that read its clock before another one, and came after it, does not begin an era; one that is hours behind does."""
    assert FIRST.at("one", T0 - 30, NOON - timedelta(seconds=30)).era == 0
    assert FIRST.at("one", T0 - 3600, NOON).era == 1
