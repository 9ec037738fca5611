"""Output of a batch's lines, made with the code that answers `generateContent`."""

import json
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

from gemini_batch.simulator.answers import AnswerContext
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.lines import Line, with_references
from gemini_batch.simulator.batch.spool import Spool
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.faults import NO_FAULT
from gemini_batch.simulator.pictures import EncodedImage
from gemini_batch.simulator.reply import ResponseSender
from gemini_batch.simulator.schedule import Schedule

# google.rpc.Code of an error's status.
_CODES = {
    "CANCELLED": 1,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "UNAUTHENTICATED": 16,
}
_HTTP_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 408: 4, 413: 3, 429: 8, 499: 1, 504: 4}

Json: TypeAlias = dict[str, Any]


class LineMaker:
    """Decides how each line is answered, and makes its output."""

    def __init__(
        self,
        config: SimulatorConfig,
        sender: ResponseSender,
        schedule: Schedule,
        offset_s: Callable[[], float],
        draws: Draws,
    ) -> None:
        self._config = config
        self._sender = sender
        self._schedule = schedule
        self._offset_s = offset_s
        self._draws = draws

    @property
    def threads(self) -> ThreadPoolExecutor:
        """The threads that draw images."""
        return self._sender.threads

    def decide(self, line: Line) -> None:
        """Choose the faults of a line's answer, and its error if there is one.

        Raises:
            ConfigError: A marker in the prompt has an unknown name, or an invalid time or count.
        """
        if not isinstance(line.request, ImageRequest):
            return
        line.placed = frozenset(
            self._draws.draw(At.LINE, line.request.prompt, model=line.request.model.id)
        )
        line.faults = self._schedule.draw(line.request, self._offset_s()) or NO_FAULT
        fails = line.faults.stage("error")
        if fails is not None:
            rng = self._sender.rng(line.request.sha256, 0, line.faults)
            no_image = EncodedImage(b"", line.request.model.mime_type)
            line.error = fails(AnswerContext(line.request, no_image, rng, self._config))
        if line.error is None:
            line.turn = self._sender.take_turn(line.request.sha256)

    def make(self, line: Line, data: Spool, origin: str) -> Json:
        """Return the `response` or the `error` of a line; blocks."""
        if line.error is not None:
            name = "status" if "line-status" in line.placed else "error"
            return {name: status(line.error)}
        request = with_references(line, data)
        if "square" in line.placed:
            request = replace(request, aspect_ratio="1:1")
        rng = self._sender.rng(request.sha256, line.turn, line.faults)
        variation = line.turn if self._config.vary else 0
        longest = self._half(request) if "smaller" in line.placed else None
        answer = self._sender.make(
            request, line.faults, rng, variation, origin=origin, longest=longest
        )
        return {"response": _reordered(answer, rng)}

    def _half(self, request: ImageRequest) -> int:
        """Return half of the longest side that the image would have."""
        size = request.model.dimensions(request.aspect_ratio or "1:1", request.image_size)
        return (self._config.pixels or max(size)) // 2


def status(error: ErrorBody) -> Json:
    """Return an error as a `google.rpc.Status`."""
    code = _HTTP_CODES.get(error.http_status, 14 if error.http_status > 500 else 13)
    with suppress(ValueError, KeyError, TypeError):  # a page of a front end has no status
        code = _CODES.get(json.loads(error.body)["error"]["status"], code)
    return {"code": code, "message": error.message}


def _reordered(answer: Any, rng: random.Random) -> Any:
    """Return an answer with its members in another order, as real result files have them."""
    if not isinstance(answer, dict):
        return answer
    names = list(answer)
    rng.shuffle(names)
    return {name: answer[name] for name in names}
