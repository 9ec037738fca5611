"""Answers that could not be understood are kept as they came, because they were paid for."""

from dataclasses import replace

from gemini_batch.clock import Clock
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.records import ApiError, Failure, FailureKind

_UNREADABLE = {FailureKind.MALFORMED, FailureKind.NOT_AN_ANSWER, FailureKind.TOO_LARGE}


async def keep_unreadable(
    staged: StagedAnswer, error: ApiError | Failure, folder: OutputFolder, clock: Clock
) -> ApiError | Failure:
    """Keep an answer that could not be understood; return the error with its place.

    Cancellation: it is kept anyway, unless the process ends.
    """
    if not isinstance(error, Failure) or error.kind not in _UNREADABLE:
        return error
    place = await clock.run_blocking(lambda: staged.keep(folder.out))
    return replace(error, message=f"{error.message}; {place}") if place else error
