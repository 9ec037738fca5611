"""Which UTC to believe when the wall clock jumps: the day of a quota must not move with it. Pure.

Two witnesses are needed. The steady clock is one: a wall clock that goes along with it, or is slewed, is believed. One that
jumped against it is not, until the `Date` of a server's answer agrees with it; until then a request counts on the dates of
both. After a reboot the steady clock only knows how long the machine is up again, and cannot say how long it was off.
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

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """

    boot_id: str
    era: int
    seen_s: float
    offset_s: float
    is_sure: bool
    refuted_s: float | None

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
        return replace(belief, offset_s=wall_s) if abs(wall_s - belief.offset_s) <= FOLLOWED_S else belief

    def agreed(self, server_at: datetime, now_s: float, utc: datetime) -> "Belief":
        """Return what to believe after the `Date` of an answer: of this belief and the wall clock, the one that is nearer to it.

        If it is near to neither, it is believed itself when this belief had one witness only, and else left alone.
        """
        wall_s, server_s = _offset_s(now_s, utc), _offset_s(now_s, server_at)
        wall_off_s, off_s = abs(wall_s - server_s), abs(self.offset_s - server_s)
        if wall_off_s <= min(_AGREED_S, off_s):
            return replace(self, offset_s=wall_s, is_sure=True, refuted_s=None)
        if off_s <= _AGREED_S:
            return replace(self, is_sure=True, refuted_s=wall_s)
        return self if self.is_sure else replace(self, offset_s=server_s, is_sure=True, refuted_s=wall_s)

    def utc(self, now_s: float) -> datetime:
        """Return the UTC that is believed at a moment of the steady clock."""
        return _EPOCH + timedelta(seconds=now_s + self.offset_s)

    def doubts(self, now_s: float, utc: datetime) -> bool:
        """Return whether the wall clock says something else, and no server has said yet which of the two is right."""
        wall_s = _offset_s(now_s, utc)
        known = (self.offset_s,) if self.refuted_s is None else (self.offset_s, self.refuted_s)
        return all(abs(wall_s - offset_s) > FOLLOWED_S for offset_s in known)


def _offset_s(now_s: float, utc: datetime) -> float:
    return (utc - _EPOCH).total_seconds() - now_s
