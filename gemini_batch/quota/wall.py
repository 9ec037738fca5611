"""Which UTC to believe when clocks differ: the day of a quota must not move with a wrong one. Pure.

Two witnesses are needed that agree: the wall clock, the steady clock that goes on from what was believed, and the `Date` of a
server's answer. A wall clock that goes along with the steady one, or is slewed, is believed. What stands alone is a *rival*, be
it a wall clock that jumped or a server that nobody agrees with: a request then counts on the dates of all of them, which
overruns no day of any. It ends when two agree, or when the server's clock was seen to go: then it is believed, until a server
agrees with the wall clock. A clock that says what can't be is no witness at all. After a reboot the steady clock only knows how
long the machine is up again, and cannot say how long it was off.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Self

FOLLOWED_S = 5.0
"""A wall clock that is off by no more is followed: time servers slew it, and leap seconds are smeared."""

# A server's Date has whole seconds, and was written a while before it is read.
_AGREED_S = 60.0
# Two processes read their clocks in another order than they come to the file. More than this is another clock.
_BACK_S = 60.0
# A server that nobody agrees with is believed when its clock went on for so long as clocks do: it may be a simulator's, or the wall clock may
# be wrong from the start. One that stands still, or says something once, is not.
_INSISTED_S = 15.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Nobody ran this before, a year before its first release, and nobody will after: who says so has no clock, or a broken one.
_EARLIEST_S = (datetime(2025, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()
_LATEST_S = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of the time.

    Attributes:
        boot_id: Of the boot that the steady clock counts from.
        era: Counts the beginnings of the steady clock: what was written in another era is of another clock.
        seen_s: The latest moment of the steady clock that was seen.
        offset_s: From the steady clock to the seconds since 1970 that are believed.
        is_sure: There were two witnesses for it.
        refuted_s: The offset of a wall clock that a server did not agree with.
        rival_s: The offset of a server that nobody agreed with.
        rival_since_s: When it was first heard, on the steady clock.
    """

    boot_id: str
    era: int
    seen_s: float
    offset_s: float
    is_sure: bool
    refuted_s: float | None
    rival_s: float | None = None
    rival_since_s: float = 0.0

    @classmethod
    def first(cls, boot_id: str, now_s: float, utc: datetime) -> Self:
        """Return a belief in the wall clock, for there is nothing else to go by."""
        return cls(boot_id, 0, now_s, _offset_s(now_s, utc), is_sure=False, refuted_s=None)

    def at(self, boot_id: str, now_s: float, utc: datetime) -> "Belief":
        """Return what to believe at a moment.

        Args:
            boot_id: Of this boot.
            now_s: The steady clock.
            utc: The wall clock, of the same moment.
        """
        belief = replace(self, seen_s=max(self.seen_s, now_s))
        if boot_id != self.boot_id or now_s < self.seen_s - _BACK_S:
            # At the least so long after what was seen last; a clock that went back without a boot says nothing at all.
            up_s = now_s if boot_id != self.boot_id else 0.0
            offset_s = self.seen_s + self.offset_s + up_s - now_s
            belief = Belief(boot_id, self.era + 1, now_s, offset_s, is_sure=False, refuted_s=None)
        wall_s = _offset_s(now_s, utc)
        if abs(wall_s - belief.offset_s) <= FOLLOWED_S:
            return replace(belief, offset_s=wall_s)
        if _can_be(now_s, wall_s) and not _can_be(now_s, belief.offset_s):
            return replace(belief, offset_s=wall_s, is_sure=False, refuted_s=None)
        return belief

    def agreed(self, server_at: datetime, now_s: float, utc: datetime) -> "Belief":
        """Return what to believe after the `Date` of an answer: of this belief and the wall clock, the one that is nearer to it.

        If it is near to neither, it is left alone when there were two witnesses for this belief, and else a rival of it.
        """
        wall_s, server_s = _offset_s(now_s, utc), _offset_s(now_s, server_at)
        if not _can_be(now_s, server_s):
            return self
        has_wall = _can_be(now_s, wall_s)
        wall_off_s, off_s = abs(wall_s - server_s), abs(self.offset_s - server_s)
        refuted_s = wall_s if has_wall else None
        if wall_off_s <= min(_AGREED_S, off_s):
            return self._sure_of(wall_s)
        if off_s <= _AGREED_S:
            return self._sure_of(self.offset_s, refuted_s)
        return self if self.is_sure else self._with_rival(server_s, now_s, refuted_s)

    def utc(self, now_s: float) -> datetime:
        """Return the UTC that is believed at a moment of the steady clock."""
        return _utc(now_s, self.offset_s)

    def rivals(self, now_s: float, utc: datetime) -> tuple[datetime, ...]:
        """Return what else the time may be, by the wall clock and by a server; nothing when there is no doubt."""
        wall = (_offset_s(now_s, utc),) if self.doubts(now_s, utc) else ()
        server = () if self.rival_s is None else (self.rival_s,)
        return tuple(_utc(now_s, offset_s) for offset_s in wall + server)

    def heard(self) -> tuple[datetime, datetime] | None:
        """Return when the server that nobody agrees with was first heard, as is believed and by its own clock; None without one."""
        if self.rival_s is None:
            return None
        return _utc(self.rival_since_s, self.offset_s), _utc(self.rival_since_s, self.rival_s)

    def doubts(self, now_s: float, utc: datetime) -> bool:
        """Return whether the wall clock says something else, and no server has said yet which of the two is right."""
        wall_s = _offset_s(now_s, utc)
        known = (self.offset_s,) if self.refuted_s is None else (self.offset_s, self.refuted_s)
        return _can_be(now_s, wall_s) and all(
            abs(wall_s - offset_s) > FOLLOWED_S for offset_s in known
        )

    def is_settled(self, now_s: float, utc: datetime) -> bool:
        """Return whether no clock says something else, so that no server need be asked.

        Also a wall clock that was refuted is asked about again: it may have been right, or was set right since.
        """
        wall_s = _offset_s(now_s, utc)
        if not _can_be(now_s, wall_s):
            return self.is_sure
        return self.rival_s is None and abs(wall_s - self.offset_s) <= FOLLOWED_S

    def earliest(self, now_s: float) -> datetime:
        """Return the earliest that the time may be, by any clock that was heard: by a later one, nothing is forgotten."""
        offsets = (self.offset_s, self.rival_s, self.refuted_s)
        return min(_utc(now_s, offset_s) for offset_s in offsets if offset_s is not None)

    def _with_rival(self, server_s: float, now_s: float, wall_s: float | None) -> "Belief":
        """Return this belief, and a server that agrees neither with it nor with the wall clock, which may be none."""
        if (
            wall_s is None and server_s > self.offset_s
        ):  # no clock here, or only the time since a reboot
            return replace(self, offset_s=server_s)
        first_s = (
            self.rival_since_s - now_s - _AGREED_S
        )  # what it said first, and what it would say by now
        if self.rival_s is None or not first_s <= server_s - self.rival_s <= _AGREED_S:
            # What was believed before a reboot is no clock, only the earliest that it may be: two are later, and one is right.
            offset_s = (
                self.offset_s
                if wall_s is None or self.offset_s >= min(wall_s, server_s)
                else wall_s
            )
            return replace(self, offset_s=offset_s, rival_s=server_s, rival_since_s=now_s)
        # A clock that stands still, or began again, would be at the same date for ever: the first that was heard goes on.
        goes_on = abs(self.rival_s - server_s) <= FOLLOWED_S
        return (
            self._sure_of(server_s, wall_s)
            if goes_on and now_s >= self.rival_since_s + _INSISTED_S
            else self
        )

    def _sure_of(self, offset_s: float, refuted_s: float | None = None) -> "Belief":
        return replace(
            self,
            offset_s=offset_s,
            is_sure=True,
            refuted_s=refuted_s,
            rival_s=None,
            rival_since_s=0.0,
        )


def _offset_s(now_s: float, utc: datetime) -> float:
    return (utc - _EPOCH).total_seconds() - now_s


def _utc(now_s: float, offset_s: float) -> datetime:
    # Whatever was written down once, the calendar has it, and the days around it.
    return _EPOCH + timedelta(seconds=min(max(0.0, now_s + offset_s), _LATEST_S))


def _can_be(now_s: float, offset_s: float) -> bool:
    return _EARLIEST_S <= now_s + offset_s < _LATEST_S
