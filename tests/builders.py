"""Calls, replies, rows, and a transport that plays a script, for tests."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import tee
from pathlib import Path
from typing import Any, Self, TypeAlias

import orjson
from PIL import Image

from gemini_batch.catalog import prices
from gemini_batch.client.transport import Exchange, ImageSink
from gemini_batch.clock import Clock
from gemini_batch.engine.breaker import server_breaker
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.lanes import Attempt, Lane
from gemini_batch.engine.result_row import Attempted, facts_of
from gemini_batch.events import Observer
from gemini_batch.output import OutputFolder, StagedAnswer
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.records import (
    Answer,
    Call,
    Estimate,
    Failure,
    FailureKind,
    FetchProblem,
    IncomingImage,
    NotFetched,
    Reply,
    Request,
    ResultRow,
    Status,
    Stop,
    Text,
    Timing,
    Usage,
)
from tests.virtual.clock import NOON_UTC

MODEL = "gemini-3-pro-image-preview"
ENDPOINT = "https://api.test"
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8\xff\xe0"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
TIMING = Timing(NOON_UTC, NOON_UTC, 20.0)


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def png(text: str) -> bytes:
    """Return bytes that begin as a PNG does, and differ for different texts."""
    return PNG_HEAD + text.encode()


def corners(width: int = 80, height: int = 40) -> Image.Image:
    """Return a picture with a colour in each corner: red and green above, blue and white below."""
    picture = Image.new("RGB", (width, height))
    across, down = width // 2, height // 2
    for colour, x, y in ((RED, 0, 0), (GREEN, across, 0), (BLUE, 0, down), (WHITE, across, down)):
        picture.paste(colour, (x, y, x + across, y + down))
    return picture


def make_call(
    call_id: str = "robot", *, prompt: str = "A robot", model: str = MODEL, line: int = 1
) -> Call:
    """Return a call; another prompt gives another `request_sha256`."""
    return Call(
        id=call_id,
        line=line,
        request=Request(model, parts=(Text(prompt),)),
        request_sha256=sha256(prompt.encode()),
        prompt=prompt,
        image_size="1K",
        metadata=None,
        estimate=Estimate(input_tokens=10, output_tokens=1120, cost_usd=0.134, extra_usd=0.0076),
    )


def by_model(calls: Iterable[Call | Stop], *models: str) -> dict[str, Iterator[Call | Stop]]:
    """Return the calls of each model; a `Stop` comes in the place that it has among those of the first."""

    def of(model: str, calls: Iterator[Call | Stop]) -> Iterator[Call | Stop]:
        for call in calls:
            if call.request.model == model if isinstance(call, Call) else model == models[0]:
                yield call

    return {
        model: of(model, copy) for model, copy in zip(models, tee(calls, len(models)), strict=True)
    }


def make_attempted(call: Call | None = None, attempts: int = 1) -> Attempted:
    """Return a call that was sent so often."""
    return Attempted(facts_of(call or make_call()), attempts, TIMING)


def make_attempt(call: Call | None = None, number: int = 1) -> Attempt:
    """Return an attempt of a call, in a lane of its own."""
    call = call or make_call()
    server = server_breaker(lambda: 0.5)
    return Attempt(call, Lane(call.request.model, server, iter(())), number)


def make_committer(
    folder: OutputFolder, rows: ResultsFile, clock: Clock, observe: Observer
) -> Committer:
    """Return a committer with the built-in prices."""
    in_flight = InFlightLog(folder.private, rows.end_bytes)
    prices_ = prices.built_in()
    return Committer(folder, rows, in_flight, prices_, ENDPOINT, clock, observe)


def arrive(
    store: OutputFolder, call_id: str, *images: bytes, attempt: int = 1
) -> tuple[IncomingImage, ...]:
    """Let images arrive as incoming parts."""
    incoming = store.stage(call_id, attempt)
    for index, data in enumerate(images):
        part = incoming.open_image(index)
        part.write(data)
        part.close()
    return incoming.arrived()


def make_reply(image: IncomingImage | None, *drafts: IncomingImage) -> Reply:
    """Return a reply: with an image, or blocked without one."""
    return Reply(
        image=image,
        drafts=drafts,
        text=None,
        finish_reason="STOP" if image else "IMAGE_SAFETY",
        finish_message=None,
        block_reason=None,
        safety_ratings=[],
        usage=Usage(prompt_tokens=10, candidates_tokens=1120, thoughts_tokens=0, total_tokens=1130),
        model_version=MODEL,
        response_id="r1",
    )


def make_row(
    call_id: str = "robot", status: Status = Status.SUCCEEDED, **changes: Any
) -> ResultRow:
    """Return a row without images; `changes` are its fields."""
    row = ResultRow(
        id=call_id,
        line=1,
        status=status,
        images=[],
        drafts=[],
        text=None,
        prompt="A robot",
        inputs=[],
        finish_reason=None,
        finish_message=None,
        block_reason=None,
        safety_ratings=[],
        usage=None,
        cost_usd=0.134,
        model=MODEL,
        model_version=None,
        response_id=None,
        endpoint=ENDPOINT,
        request_sha256=sha256(b"A robot"),
        attempts=1,
        latency_s=20.0,
        sent_at=NOON_UTC,
        finished_at=NOON_UTC,
        error=None,
        metadata=None,
    )
    return replace(row, **changes)


def line_of(row: ResultRow) -> bytes:
    """Return the row as a line of `results.jsonl`."""
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


def tree(out: Path) -> dict[str, bytes]:
    """Return every file below a folder with what is in it; the lock is left out, for its text is a process id."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


# --- a transport that plays a script ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """The result of one attempt after `latency_s` seconds; `connects` is False without a connection."""

    answer: Callable[[Call, StagedAnswer], Answer | Failure]
    latency_s: float = 20.0
    connects: bool = True


def picture(
    latency_s: float = 20.0,
    *,
    prompt_tokens: int = 10,
    thoughts_tokens: int = 0,
    usage: dict[str, Any] | None = None,
    drawing: str = "",
) -> Step:
    """Answer with an image that is different for each call, prompt and drawing."""
    usage = usage or {
        "promptTokenCount": prompt_tokens,
        "totalTokenCount": prompt_tokens + 1120 + thoughts_tokens,
    }
    part = {"inlineData": {"mimeType": "image/png", "data": "#0"}}

    def answer(call: Call, incoming: StagedAnswer) -> Answer:
        image = incoming.open_image(0)
        image.write(png(f"{call.id} {call.prompt}{drawing}"))
        image.close()
        candidates = [{"content": {"parts": [part]}, "finishReason": "STOP"}]
        body = orjson.dumps({"candidates": candidates, "usageMetadata": usage})
        incoming.journal(body)  # as the client does
        return Answer(200, body, incoming.arrived())

    return Step(answer, latency_s)


GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def says(
    http_status: int, message: str = "no", latency_s: float = 1.0, details: list[Any] | None = None
) -> Step:
    """Answer with an error of Google's form."""
    error = {
        "code": http_status,
        "message": message,
        "status": GOOGLE_STATUS.get(http_status, "UNKNOWN"),
        "details": details or [],
    }
    return Step(
        lambda _call, _incoming: Answer(http_status, orjson.dumps({"error": error})), latency_s
    )


def answers(body: object, http_status: int = 200, latency_s: float = 1.0) -> Step:
    """Answer with this body: JSON, or bytes as they are."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Step(lambda _call, _incoming: Answer(http_status, raw), latency_s)


def blocked_for(reason: str, latency_s: float = 1.0) -> Step:
    """Answer without an image, for a reason."""
    return Step(
        lambda _call, _incoming: Answer(
            200, orjson.dumps({"candidates": [{"finishReason": reason}]})
        ),
        latency_s,
    )


def quota_of_the_day(latency_s: float = 1.0) -> Step:
    """Answer that today's requests are used up."""
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    detail = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
    return says(429, "quota exceeded", latency_s, [detail])


def fails(kind: FailureKind, latency_s: float = 1.0) -> Step:
    """End without an answer; when the request had left, half an image has arrived."""
    failure = Failure(kind, f"it is {kind}", may_be_billed=kind is not FailureKind.UNREACHABLE)

    def answer(_call: Call, incoming: StagedAnswer) -> Failure:
        if failure.may_be_billed:
            incoming.open_image(0).write(png("half"))
        return failure

    return Step(answer, latency_s, connects=kind is not FailureKind.UNREACHABLE)


class BugError(Exception):
    """An unexpected error in our own code."""


def breaks(latency_s: float = 1.0) -> Step:
    """Raise what no station is allowed to raise, half way through an image."""

    def answer(call: Call, incoming: StagedAnswer) -> Answer:
        incoming.open_image(0).write(png("half"))
        raise BugError(call.id)

    return Step(answer, latency_s)


PICTURE = picture()


def names(*uris: str, latency_s: float = 20.0, inline: str = "", thought: int = 0) -> Step:
    """Answer with images by their URIs; before them with one of its own, and the first `thought` of them as drafts."""
    parts: list[Any] = [
        {"fileData": {"fileUri": uri, "mimeType": "image/png"}, "thought": number < thought}
        for number, uri in enumerate(uris)
    ]
    if inline:
        own = {"inlineData": {"mimeType": "image/png", "data": "#0"}, "thought": True}
        parts.insert(0, own)
    usage = {"promptTokenCount": 10, "totalTokenCount": 1130}
    candidates = [{"content": {"parts": parts}, "finishReason": "STOP"}]
    body = orjson.dumps({"candidates": candidates, "usageMetadata": usage, "responseId": "r1"})

    def answer(_call: Call, incoming: StagedAnswer) -> Answer:
        if inline:
            image = incoming.open_image(0)
            image.write(png(inline))
            image.close()
        incoming.journal(body)
        return Answer(200, body, incoming.arrived())

    return Step(answer, latency_s)


Fetched: TypeAlias = bytes | NotFetched
GONE_IMAGE = NotFetched(FetchProblem.GONE, "it is gone (HTTP 404)")
OFFLINE = NotFetched(FetchProblem.TRANSIENT, "no network")
FORBIDDEN = NotFetched(FetchProblem.REFUSED, "only https")


@dataclass
class ScriptedFetcher:
    """Stands in for the servers that hold images: each fetch takes 5 s; a URI that has no script brings a picture of its own."""

    script: dict[str, list[Fetched]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def fetch(
        self, uri: str, open_sink: Callable[[], ImageSink], until_s: float
    ) -> NotFetched | None:
        """Play the next result of a URI, the last one again and again."""
        results = self.script.get(uri, [png(uri)])
        found = results[min(self.fetched.count(uri), len(results) - 1)]
        self.fetched.append(uri)
        open_sink().write(png("half"))
        try:
            async with asyncio.timeout_at(until_s):
                await asyncio.sleep(5.0)
        except TimeoutError:
            return OFFLINE
        if isinstance(found, NotFetched):
            return found
        sink = open_sink()
        sink.write(found)
        sink.close()
        return None


@dataclass
class ScriptedTransport:
    """Stands in for the network: plays each call's steps in turn, the last one again and again.

    Attributes:
        script: The steps of a call, by its id; a call without any gets a picture.
        sent: When which call was sent.
        models: To which model, in the same order.
        answered: When which call's answer was whole.
        most: Most calls in flight at a time.
    """

    clock: Clock
    script: dict[str, list[Step]] = field(default_factory=dict)
    sent: list[tuple[float, str]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    answered: list[tuple[float, str]] = field(default_factory=list)
    in_flight: int = 0
    most: int = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    async def send(
        self, call: Call, incoming: StagedAnswer, on_connected: Callable[[], object]
    ) -> Exchange:
        """Play the call's next step."""
        steps = self.script.get(call.id, [PICTURE])
        step = steps[min(self.sends(call.id), len(steps) - 1)]
        sent_at = self.clock.utc()
        self.sent.append((round(self.clock.steady_s(), 2), call.id))
        self.models.append(call.request.model)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        if step.connects:
            on_connected()
        try:
            await asyncio.sleep(step.latency_s)
            answer = step.answer(call, incoming)
        finally:
            self.in_flight -= 1
        self.answered.append((round(self.clock.steady_s(), 2), call.id))
        return Exchange(answer, Timing(sent_at, self.clock.utc(), step.latency_s))

    def sends(self, call_id: str) -> int:
        """Return how often a call was sent."""
        return sum(sent == call_id for _, sent in self.sent)
