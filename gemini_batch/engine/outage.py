"""While no connection is to be had all calls wait, and one at a time finds out whether there is one again."""

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Outage:
    """For how long no connection has been to be had, and which call probes; calls that fail in the same pause are one round.

    Before the first failure, and after `over`, there is none: then every call may be sent.

    Attributes:
        why: Why the last one could not be had; empty without an outage.
    """

    why: str = ""
    _since_s: float | None = None
    _until_s: float = 0.0
    _rounds: int = 0
    _next: str | None = None  # the call that waits for its grant to probe
    _probe: str | None = None  # the call that was let go
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def turn(self, call_id: str, stop: asyncio.Event) -> None:
        """Return when the call may ask for a grant, or when `stop` is set: whoever sets it says `over` as well.

        Cancellation: safe; another call may probe.
        """
        while not stop.is_set() and self._since_s is not None:
            if {self._next, self._probe} <= {None, call_id}:
                self._next = call_id
                return
            await self._changed.wait()

    def lets(self, call_id: str) -> bool:
        """Return whether a call that has its grant may be sent: in an outage the first one, who had asked for it earlier or not."""
        if self._since_s is None:
            return True
        self._probe = self._probe or call_id
        return self._probe == call_id

    def left(self, call_id: str) -> None:
        """Note that a call is not on its way any more: if it was the one that probes, another one may."""
        if call_id in {self._next, self._probe}:
            self._next = None if self._next == call_id else self._next
            self._probe = None if self._probe == call_id else self._probe
            self._wake()

    def over(self) -> None:
        """Note that the server is there."""
        if self._since_s is not None:
            self.why, self._since_s, self._until_s, self._rounds = "", None, 0.0, 0
            self._next = self._probe = None
            self._wake()

    def failed(self, now_s: float, why: str) -> int:
        """Note that a connection could not be had, and why; return in which round, from 1."""
        self.why = why
        if self._since_s is None:
            self._since_s = now_s
        if now_s >= self._until_s:
            self._rounds += 1
        return self._rounds

    def wait_until(self, until_s: float) -> None:
        """Note until when nobody is to try."""
        self._until_s = max(self._until_s, until_s)

    def length_s(self, now_s: float) -> float:
        """Return how long it goes on."""
        return 0.0 if self._since_s is None else now_s - self._since_s

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
