"""Table of the faults that change what an answer says about its cost. One line adds a fault."""

from collections.abc import Callable
from typing import Any, TypeAlias

from gemini_batch.simulator.answers import AnswerContext, Json
from gemini_batch.simulator.fault import Fault

_Shape: TypeAlias = Callable[[AnswerContext, Json], Json]


def _set_usage(**values: Any) -> _Shape:
    """Replace fields of the usage; None removes them."""

    def shape(_context: AnswerContext, good: Json) -> Json:
        usage = good["usageMetadata"] | values
        return good | {
            "usageMetadata": {name: usage[name] for name in usage if usage[name] is not None}
        }

    return shape


def _searching(context: AnswerContext, good: Json) -> Json:
    """Let the model search the web more often than is usual."""
    queries = [f"{context.request.prompt[:60]} {number}" for number in range(1, 13)]
    good["candidates"][0]["groundingMetadata"] = {"webSearchQueries": queries}
    return good


USAGES: dict[str, Fault] = {
    "usage-zero": Fault(
        summary="a usage that counts no tokens",
        shape=_set_usage(
            promptTokenCount=0,
            candidatesTokenCount=0,
            thoughtsTokenCount=0,
            totalTokenCount=0,
            promptTokensDetails=None,
            candidatesTokensDetails=None,
        ),
    ),
    "tier-standard": Fault(
        summary="standard as the service tier that was served",
        shape=_set_usage(serviceTier="standard"),
    ),
    "tier-absent": Fault(summary="no service tier named", shape=_set_usage(serviceTier=None)),
    "searches": Fault(summary="twelve queries of Google Search", shape=_searching),
}
