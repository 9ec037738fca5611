"""Values that all packages share, from a manifest's line to a result's row.

`Call` one API request planned from a job · `Answer` or `Failure` the result of an attempt · `Reply`
or `ApiError` the meaning of an answer · `ResultRow` its line in `results.jsonl` · `Stop` the reason
why a whole run ends early. `Job`, a manifest line, is in `job`: it needs pydantic, which is slow to
import.
"""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use

if TYPE_CHECKING:
    from gemini_batch.records.answer import (
        NOT_SENT,
        Answer,
        ApiError,
        Failure,
        FailureKind,
        FetchProblem,
        NotFetched,
        Outcome,
        QuotaViolation,
        RemoteImage,
        Reply,
        Timing,
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
    from gemini_batch.records.incoming import IncomingImage
    from gemini_batch.records.row import (
        BatchRef,
        ImageFile,
        InputRef,
        ResultRow,
        ReusedFrom,
        Route,
        RowError,
        SentFile,
    )
    from gemini_batch.records.service_tier import ServiceTier
    from gemini_batch.records.status import Status
    from gemini_batch.records.stop import Stop, StopReason, resolved_by_waiting
    from gemini_batch.records.usage import Usage

__getattr__ = on_first_use(
    __name__,
    {
        "NOT_SENT": "answer",
        "Answer": "answer",
        "ApiError": "answer",
        "Failure": "answer",
        "FailureKind": "answer",
        "FetchProblem": "answer",
        "IncomingImage": "incoming",
        "NotFetched": "answer",
        "Outcome": "answer",
        "QuotaViolation": "answer",
        "RemoteImage": "answer",
        "Reply": "answer",
        "Timing": "answer",
        "Usage": "usage",
        "AspectRatio": "call",
        "Call": "call",
        "Estimate": "call",
        "ImageSize": "call",
        "InputImage": "call",
        "InputUri": "call",
        "JobPicture": "call",
        "Limits": "call",
        "Load": "call",
        "Modality": "call",
        "Part": "call",
        "Request": "call",
        "Text": "call",
        "Thinking": "call",
        "Facts": "facts",
        "BatchRef": "row",
        "ImageFile": "row",
        "InputRef": "row",
        "ResultRow": "row",
        "ReusedFrom": "row",
        "Route": "row",
        "RowError": "row",
        "SentFile": "row",
        "Status": "status",
        "ServiceTier": "service_tier",
        "Stop": "stop",
        "StopReason": "stop",
        "resolved_by_waiting": "stop",
    },
)
