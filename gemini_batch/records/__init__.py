"""Values that all packages share, from a manifest's line to a result's row.

`Call` one API request planned from a job · `Answer` or `Failure` the result of an attempt · `Reply`
or `ApiError` the meaning of an answer · `ResultRow` its line in `results.jsonl` · `Stop` the reason
why a whole run ends early. `Job`, a manifest line, is in `job`: it needs pydantic, which is slow to
import.
"""

from gemini_batch.records.answer import (
    NOT_SENT,
    Answer,
    ApiError,
    Failure,
    FailureKind,
    FetchProblem,
    IncomingImage,
    NotFetched,
    Outcome,
    QuotaViolation,
    RemoteImage,
    Reply,
    Timing,
    Usage,
)
from gemini_batch.records.call import (
    AspectRatio,
    Call,
    Estimate,
    ImageSize,
    InputImage,
    InputUri,
    JobPicture,
    Limits,
    Load,
    Modality,
    Part,
    Request,
    Text,
    Thinking,
)
from gemini_batch.records.facts import Facts
from gemini_batch.records.row import (
    BatchRef,
    ImageFile,
    InputRef,
    ResultRow,
    ReusedFrom,
    Route,
    RowError,
    SentFile,
    Status,
)
from gemini_batch.records.service_tier import ServiceTier
from gemini_batch.records.stop import Stop, StopReason, resolved_by_waiting
