"""`Status`: the end of a call."""

from enum import StrEnum


class Status(StrEnum):
    """The end of a call."""

    SUCCEEDED = "succeeded"
    BLOCKED = "blocked"  # an answer without an image: a result, not an error
    REJECTED = "rejected"  # the server says that this job is wrong
    FAILED = "failed"  # all attempts failed; the next run tries again
    UNCERTAIN = "uncertain"  # sent by a run that was killed; may have been billed
    LOST = "lost"  # a row whose image did not survive; it runs again
    LATE = "late"  # of a batch, for a call that has another answer, or asks for another one
    PRUNED = "pruned"  # of a call that was no longer in the manifest
