"""Decisions over a batch, from its note, from what the server says, and from the time. Pure.

A run that is killed at any step leaves a note; the next one continues from there:

======================  ==================================================
planned, uploaded       nothing was paid for: the note is dropped
creating                it may exist: it is looked for in the whole list
created                 it is asked for by its name
ended, collecting       its results are read; calls that have rows are skipped
collected               its input file and its note are removed
lost                    given up: its calls are sent again, but it is looked for
======================  ==================================================
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from gemini_batch.output.batch_note import LOOKS, LOOKS_APART, BatchNote, Step
from gemini_batch.records.remote_batch import BatchState, RemoteBatch

# "Target 24 hours" (https://ai.google.dev/gemini-api/docs/batch-api, 2026-11-30). A client that
# cancels at 6 hours and submits again starves itself (collected 2026-11-30).
PATIENCE_S = 26 * 3600.0
# A batch that is pending or running for more than 48 hours has expired (the same page).
EXPIRED_AFTER = timedelta(hours=50)
_OVER = {each.value for each in BatchState if each.is_terminal}
TRIES = 2
"""Batches in a row that gave a call back, after which it is sent in another way, or not now."""
MISSES = 3
"""Looks by its name that did not find a batch, or its results, until it is gone."""
MISSING_FOR = timedelta(minutes=10)
UNSEEN = frozenset({403, 404})
"""Statuses for a batch that is not there, or is another project's."""
# The list shows when a batch was created, by the server's clock.
CLOCK_SKEW = timedelta(hours=1)
# When to look again for a batch whose create was not answered, after it was sent; then with each
# look that counts.
_SEARCH_AT_S = (30.0, 120.0)
# While a run waits: from once a minute to once in five.
_MIN_POLLS, _MAX_POLLS, _POLLS_AN_AGE = 1.0, 5.0, 10.0
# What the last line of a run advises.
_AGAIN_NEW, _AGAIN_OLD = timedelta(hours=2), timedelta(hours=1)
_AGAIN_MISSING = timedelta(minutes=10)


class Todo(Enum):
    """Next steps of a run with a batch."""

    DROP = auto()  # remove its note; its calls are planned again
    SEARCH = auto()  # look for it in the list
    ASK = auto()  # get it by its name
    COLLECT = auto()  # read its results, or give back its calls if there are none
    FINISH = auto()  # remove its input file and its note
    FORGET = auto()  # remove the note of a batch that was given up long ago


def next_step(note: BatchNote, now: datetime) -> Todo:
    """Return what follows from a note alone, as a run finds it."""
    match note.step:
        case Step.PLANNED | Step.UPLOADED:
            return Todo.DROP
        case Step.CREATING:
            return Todo.SEARCH
        case Step.CREATED:
            return Todo.ASK
        case Step.ENDED | Step.COLLECTING:
            return Todo.COLLECT
        case Step.COLLECTED:
            return Todo.FINISH
        case Step.LOST:
            is_over = now - note.since > EXPIRED_AFTER
            return Todo.FORGET if is_over else Todo.SEARCH


def seen(note: BatchNote, found: RemoteBatch, now: datetime) -> BatchNote:
    """Return the note after the server described the batch."""
    stats = (found.stats.succeeded, found.stats.failed)
    note = replace(
        note,
        step=Step.CREATED,
        name=found.name,
        state=found.state.value,
        output_file=found.output_file,
        created_at=found.created_at or note.created_at,
        done=None if None in stats else sum(each or 0 for each in stats),
        why=found.error.message if found.error else "",
        looks=0,
        looked_at=None,
    )
    if not found.state.is_terminal:
        return replace(note, missing_since=None, misses=0)
    note = replace(note, ended_at=found.ended_at or note.ended_at or now)
    if found.output_file or found.state is not BatchState.SUCCEEDED:
        return replace(note, step=Step.ENDED, missing_since=None, misses=0)
    # The name of the results may follow later than the state (collected 2026-11-30).
    note = missed(note, now)
    return replace(note, step=Step.ENDED) if is_missing(note, now) else note


def missed(note: BatchNote, now: datetime) -> BatchNote:
    """Return the note after the server did not have the batch, or its results, by their name."""
    return replace(note, missing_since=note.missing_since or now, misses=note.misses + 1)


def is_missing(note: BatchNote, now: datetime) -> bool:
    """Return whether something was missing often and long enough to count as gone."""
    since = note.missing_since
    return since is not None and note.misses >= MISSES and now - since >= MISSING_FOR


def is_gone(note: BatchNote, now: datetime) -> bool:
    """Return whether a batch that existed is given up: its name is unknown to the server."""
    return note.step is Step.CREATED and not note.ended_at and is_missing(note, now)


def not_found(note: BatchNote, now: datetime, *, is_first: bool) -> BatchNote:
    """Return the note after a look through the whole list; `is_first` in this run.

    Each run counts once, and while one waits, each look five minutes after the last that counted: a
    batch is given up after three runs, or a quarter of an hour. A clock that was set back does not
    put off the next look that counts.
    """
    if not is_first and abs(now - (note.looked_at or note.since)) < LOOKS_APART:
        return note
    return replace(note, looks=note.looks + 1, looked_at=now)


def is_lost(note: BatchNote) -> bool:
    """Return whether a batch whose create was not answered is given up."""
    return note.step is Step.CREATING and note.looks >= LOOKS


def matching(note: BatchNote, batches: Iterable[RemoteBatch]) -> list[RemoteBatch]:
    """Return the batches of a list that are the one of a note, the oldest first."""
    found = [
        each
        for each in batches
        if each.display_name == note.display_name
        or (note.file and each.input_file == note.file)
        or (note.name and each.name == note.name)
    ]
    last = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda each: (each.created_at or last, each.name))


def is_overdue(note: BatchNote, now: datetime, patience_s: float) -> bool:
    """Return whether a batch that runs is older than a run has patience for."""
    return note.step is Step.CREATED and now - note.since > timedelta(seconds=patience_s)


def is_cancelled(note: BatchNote, now: datetime, patience_s: float, *, is_given_up: bool) -> bool:
    """Return whether the end of a batch is asked for now; `is_given_up` if others have its calls.

    It stays open until the server says that it has ended: what it answered is paid for.
    """
    if note.step is not Step.CREATED or note.cancelled_at is not None:
        return False
    return note.state not in _OVER and (is_given_up or is_overdue(note, now, patience_s))


def next_look_at(note: BatchNote, now: datetime, minute_s: float) -> datetime:
    """Return when to look at a batch again while a run waits, with minutes of this length."""
    age_s = (now - note.since).total_seconds()
    if note.step is Step.CREATING:
        early = (each for each in _SEARCH_AT_S if each > age_s)
        if (early_s := next(early, None)) is not None:
            return note.since + timedelta(seconds=early_s)
        return note.look_counts_at if now < note.look_counts_at else now + LOOKS_APART
    wait_s = min(max(age_s / _POLLS_AN_AGE, _MIN_POLLS * minute_s), _MAX_POLLS * minute_s)
    return now + timedelta(seconds=wait_s)


def run_again_at(notes: Iterable[BatchNote], now: datetime) -> datetime:
    """Return when another run is likely to collect something."""
    return now + min((_again_in(note, now) for note in notes), default=_AGAIN_OLD)


def _again_in(note: BatchNote, now: datetime) -> timedelta:
    if note.step is Step.CREATING:
        return max(timedelta(), note.look_counts_at - now)
    if note.missing_since is not None:
        return _AGAIN_MISSING
    return _AGAIN_NEW if now - note.since < _AGAIN_NEW else _AGAIN_OLD
