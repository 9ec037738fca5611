"""The note of a batch: what is known of it, and how far it is. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

LOOKS = 3
"""Looks that count, without a find, until a batch whose create was not answered is given up."""
LOOKS_APART = timedelta(minutes=5)
"""The time between looks that count while one run waits; of other runs the first one counts.

No one knows how soon the list shows a new batch (collected 2026-11-30).
"""


class Step(StrEnum):
    """Stages of a batch, by what a kill right after each of them leaves."""

    PLANNED = "planned"  # nothing was sent
    UPLOADED = "uploaded"  # its input file is on the server, which costs nothing
    CREATING = "creating"  # it may exist: the create was sent, or is about to be
    CREATED = "created"  # it exists, by its name
    ENDED = "ended"  # the server does no more for it
    COLLECTING = "collecting"  # some of its calls may have their rows
    COLLECTED = "collected"  # all its calls have rows, which are durable
    LOST = "lost"  # given up after several looks; it is looked for until it must have expired


@dataclass(frozen=True, slots=True)
class BatchNote:
    """The state of a batch as the disk has it.

    Attributes:
        uuid: Random; in its display name and its keys.
        endpoint: Where it was sent, as in rows.
        project: Of the key that it was made with: a fingerprint.
        model: The model of all its calls.
        calls: Their number.
        input_tokens: Of all of them, about; they count in the enqueued tokens.
        estimated_usd: At the price of a batch; None if a price is unknown.
        rows_bytes: The size of `results.jsonl` when it was planned.
        planned_at: When it was noted first, UTC.
        sent_at: When its create was noted, just before it was sent.
        step: How far it is.
        file: Its input file on the server, `files/…`; "" before, as the other names.
        name: The batch on the server, `batches/…`.
        output_file: Its results.
        created_at: By the server's clock, UTC, as `ended_at`; None before.
        state: The last state that the server reported.
        done: Requests that have ended by the server's last count; None if it did not say.
        looks: Looks through the whole list that did not find it, and count: see `look_counts_at`.
        looked_at: When the last of these was.
        missing_since: Since when the server does not know its name; None if it does.
        misses: Looks by its name since then.
        cancelled_at: When its end was asked for.
        why: The last problem, for people.
        made_in: The worker's folder in which `rows_bytes` counts, with a slash at its end, for a
            batch that another worker has taken over; None for the folder that the batch is in.
    """

    uuid: str
    endpoint: str
    project: str
    model: str
    calls: int
    input_tokens: int
    estimated_usd: float | None
    rows_bytes: int
    planned_at: datetime
    step: Step = Step.PLANNED
    file: str = ""
    name: str = ""
    output_file: str = ""
    sent_at: datetime | None = None
    created_at: datetime | None = None
    ended_at: datetime | None = None
    state: str = ""
    done: int | None = None
    looks: int = 0
    missing_since: datetime | None = None
    misses: int = 0
    cancelled_at: datetime | None = None
    why: str = ""
    made_in: str | None = None
    looked_at: datetime | None = None

    @property
    def display_name(self) -> str:
        """The name by which a batch is found whose create was not answered."""
        return f"gemini_batch {self.uuid}"

    @property
    def since(self) -> datetime:
        """The time of its creation, as far as that is known."""
        return self.created_at or self.sent_at or self.planned_at

    @property
    def look_counts_at(self) -> datetime:
        """The time from which a look of a run that waits counts, if it does not find it."""
        return (self.looked_at or self.since) + LOOKS_APART

    @property
    def looks_left(self) -> int:
        """Looks without a find after which it is given up; 0 if its create was answered."""
        return max(0, LOOKS - self.looks) if self.step is Step.CREATING else 0

    def key(self, position: int, request_sha256: str) -> str:
        """Return the key of a line: no other batch has it."""
        return key_of(self.uuid, position, request_sha256)

    def position(self, key: str) -> int | None:
        """Return the line of a key; None if the key is of another batch."""
        prefix, _, rest = key.partition(".")
        number = rest.partition(".")[0]
        if prefix != self.uuid[:8] or not (number.isascii() and number.isdigit()):
            return None
        return int(number) if len(number) <= 9 and int(number) < self.calls else None


def key_of(uuid: str, position: int, request_sha256: str) -> str:
    """Return the key of a line of a batch."""
    return f"{uuid[:8]}.{position}.{request_sha256[:8]}"
