"""The port of the ledger: states that several runs share, changed one transaction at a time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

T = TypeVar("T")

OnUnknown: TypeAlias = Literal["ask", "redo"]


class QuotaKey(NamedTuple):
    """The owner of a quota."""

    endpoint: str
    project: str
    model: str

    def is_of(self, endpoint: str | None, project: str | None) -> bool:
        """Return whether it belongs to an endpoint and a project; None is any."""
        return endpoint in {None, self.endpoint} and project in {None, self.project}


class State(Protocol):
    """The state of one quota, opaque to the storage."""

    def dump(self) -> dict[str, Any]:
        """Return the state as JSON values."""


StoredState: TypeAlias = State | Mapping[str, Any] | None
"""A state as it comes back: the same object, or what its `dump` returned; None if there is none."""

NewStates: TypeAlias = Mapping[QuotaKey, State | None]
Decide: TypeAlias = Callable[[Sequence[StoredState], float, str], tuple[T, NewStates]]
"""A decision: (states, now_s, server_id) -> (result, states to write; None deletes one).

States are in the order of the keys. Nothing is written without states to write. `now_s` was read
after access was granted. `server_id` names the clock: what was written with another one counts from
another origin, or may lack the last commits of a server that was replaced. A decision may be made
several times, each time from the states that are stored then; it changes nothing but these states.
"""


class Snapshot(NamedTuple):
    """All states, in the order of their keys, and the clock at the moment of reading."""

    states: Mapping[QuotaKey, StoredState]
    now_s: float
    server_id: str


class LedgerStorage(Protocol):
    """Exclusive access to the states of quotas, for all who share them, and their clock.

    A file has the clock of its machine: locks it, reads clock and states, decides, commits. A
    server has its own: one round trip takes an advisory lock and then reads clock and states, a
    second one writes and commits. Access is granted in the order of asking.
    """

    @property
    def name(self) -> str:
        """The place of the states, for the user; without a password."""

    @property
    def blocks(self) -> bool:
        """True if a method may take long, and so belongs in a thread."""

    @property
    def has_own_clock(self) -> bool:
        """True if `now_s` is a server's clock, in seconds since 1970.

        Otherwise it is the steady clock of the askers, or 0.0 where the moment of asking counts.
        """

    @property
    def is_away(self) -> bool:
        """True while a server is waited for, or was given up: a question would wait as well."""

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences for the user about the opening."""

    @property
    def lost_at_s(self) -> float | None:
        """The moment when states were lost, in seconds since 1970; None if never.

        A key without a state may have had one before that moment.
        """

    def open(self) -> None:
        """Make the storage ready for `transact`; `scan` and `clear` need no opening.

        Raises:
            StorageError: It can't be used.
            ConfigError: A newer version wrote it.
        """

    def transact(
        self,
        keys: Sequence[QuotaKey],
        decide: Decide[T],
        on_unknown: OnUnknown,
        *,
        is_look: bool = False,
    ) -> T:
        """Decide with exclusive access to the states of `keys`, and return when that is durable.

        If the connection breaks in a commit, `on_unknown` says to "ask" what became of it, for a
        decision that must not count twice, or to "redo" it, where that is harmless. `is_look` is
        true of a decision that rarely writes: a server then decides on what is committed, without
        a turn, and with one if there is something to write.

        Raises:
            StorageError: Nothing was changed.
        """

    def scan(self) -> Snapshot:
        """Return all states; changes nothing.

        Raises:
            StorageError: It can't be read, or is damaged.
            ConfigError: A newer version wrote it.
        """

    def clear(self, endpoint: str | None = None, project: str | None = None) -> bool:
        """Delete the states of an endpoint and a project, None is any; return if there were any.

        Without both, all is deleted, and a damaged storage too.

        Raises:
            StorageError: It can't be changed.
        """

    def hurry(self) -> None:
        """Wait no longer than a moment for a server that is away: the user wants an end."""

    def close(self) -> None:
        """Close the storage after the transaction in progress; a second time does nothing."""
