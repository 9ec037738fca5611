"""The values that pass between the stations, from a manifest's line to a result's row.

`Job` one manifest line · `Call` one API request planned from it · `Answer` or `Failure` what came back when it was sent ·
`Reply` or `ApiError` what an answer means · `ResultRow` its line in `results.jsonl` · `Stop` why a whole run ends early.
"""

from gemini_batch.records.answer import (
    Answer,
    ApiError,
    Failure,
    FailureKind,
    IncomingImage,
    Outcome,
    QuotaViolation,
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
    Limits,
    Modality,
    Part,
    Request,
    Text,
)
from gemini_batch.records.row import (
    ImageFile,
    InputRef,
    ResultRow,
    ReusedFrom,
    RowError,
    SentFile,
    Status,
)
from gemini_batch.records.stop import EXIT_OF_STOP, Stop, StopReason, resolved_by_waiting

__all__ = [
    "EXIT_OF_STOP",
    "Answer",
    "ApiError",
    "AspectRatio",
    "Call",
    "Estimate",
    "Failure",
    "FailureKind",
    "ImageFile",
    "ImageSize",
    "IncomingImage",
    "InputImage",
    "InputRef",
    "InputUri",
    "Limits",
    "Modality",
    "Outcome",
    "Part",
    "QuotaViolation",
    "Reply",
    "Request",
    "ResultRow",
    "ReusedFrom",
    "RowError",
    "SentFile",
    "Status",
    "Stop",
    "StopReason",
    "Text",
    "Timing",
    "Usage",
    "resolved_by_waiting",
]
