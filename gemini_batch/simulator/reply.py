"""Answers to admitted requests: draw the image, wait for the latency, apply faults, send."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from aiohttp import web

from gemini_batch.simulator import answers, bodies, delivery, pictures
from gemini_batch.simulator.answers import AnswerContext
from gemini_batch.simulator.audit import Entry
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.faults import NO_FAULT, FaultSet
from gemini_batch.simulator.files import HostedFiles

T = TypeVar("T")

_DRAWING_THREADS = 4


class ResponseSender:
    """Sends every answer of a simulator, errors included; `files` has those that answers name."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock) -> None:
        self._config = config
        self._clock = clock
        self.files = HostedFiles()
        self._answered: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_DRAWING_THREADS, thread_name_prefix="simulator")

    def close(self) -> None:
        """Stop the drawing threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    @property
    def threads(self) -> ThreadPoolExecutor:
        """The threads that draw images."""
        return self._threads

    def take_turn(self, sha256: str) -> int:
        """Return how often a request has been answered before, and count one more answer."""
        self._answered[sha256] += 1
        return self._answered[sha256] - 1

    def rng(self, sha256: str, turn: int, fault_set: FaultSet) -> random.Random:
        """Return the random numbers of an answer."""
        return random.Random(f"{self._config.seed}/{sha256}/{turn}/{fault_set.names}")

    async def answer(
        self, request: web.Request, entry: Entry, image_request: ImageRequest, fault_set: FaultSet
    ) -> web.StreamResponse:
        """Answer a valid request."""
        entry.faults = fault_set.names
        sha256 = image_request.sha256
        answered = self._answered[sha256]
        rng = self.rng(sha256, answered, fault_set)
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._latency_s(image_request, rng)
        deadline_s = _server_timeout_s(request)
        if deadline_s is not None and loop.time() + deadline_s < due_s:
            await asyncio.sleep(deadline_s)
            late = bodies.error(504, "Deadline expired before operation could complete.")
            return await self.refuse(request, entry, late)
        fails: Callable[[AnswerContext], ErrorBody | None] | None = fault_set.stage("error")
        if fails is not None:
            no_image = pictures.EncodedImage(b"", image_request.model.mime_type)
            refusal = fails(AnswerContext(image_request, no_image, rng, self._config))
            if refusal is not None:
                await asyncio.sleep(due_s - loop.time())
                return await self.refuse(request, entry, refusal, fault_set)
        self._answered[sha256] += 1
        variation = answered if self._config.vary else 0
        body, entry.images, tier = await loop.run_in_executor(
            self._threads,
            partial(
                self._body,
                image_request,
                fault_set,
                rng,
                variation,
                origin=str(request.url.origin()),
            ),
        )
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        return await self._send(
            request,
            entry,
            200,
            body,
            bodies.JSON_TYPE,
            headers={"x-gemini-service-tier": tier} if tier else None,
            fault_set=fault_set,
        )

    async def refuse(
        self,
        request: web.Request,
        entry: Entry,
        refusal: ErrorBody,
        fault_set: FaultSet | None = None,
    ) -> web.StreamResponse:
        """Answer with an error."""
        entry.error = refusal.message
        return await self._send(
            request,
            entry,
            refusal.http_status,
            refusal.body,
            refusal.content_type,
            headers=refusal.headers,
            fault_set=fault_set or NO_FAULT,
        )

    def _body(
        self,
        image_request: ImageRequest,
        fault_set: FaultSet,
        rng: random.Random,
        variation: int,
        *,
        origin: str,
    ) -> tuple[bytes, int, str | None]:
        """Return the body of a 200, the number of its images, and the tier served; blocks."""
        answer = self.make(image_request, fault_set, rng, variation, origin=origin)
        write = fault_set.stage("write")
        plain = answers.pretty if self._config.pretty else answers.compact
        return (write or plain)(answer), _count_images(answer), _tier(answer)

    def make(
        self,
        image_request: ImageRequest,
        fault_set: FaultSet,
        rng: random.Random,
        variation: int,
        *,
        origin: str,
        longest: int | None = None,
    ) -> Any:
        """Return the JSON of a 200; blocks.

        Args:
            image_request: The checked request.
            fault_set: The faults of this answer.
            rng: Seeded by the request and its turn.
            variation: 0 for the first answer to this request.
            origin: Scheme, host and port of this server.
            longest: Longest side of the image in pixels, instead of the config's.
        """
        config = self._config
        image = pictures.draw(
            image_request,
            seed=config.seed,
            variation=variation,
            longest=longest or config.pixels,
            image_bytes=config.image_bytes,
        )
        context = AnswerContext(
            image_request, image, rng, config, lambda *file: origin + self.files.add(*file)
        )
        answer: Any = answers.image_answer(context)
        shape = fault_set.stage("shape")
        return answer if shape is None else shape(context, answer)

    async def _send(
        self,
        request: web.Request,
        entry: Entry,
        http_status: int,
        body: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        fault_set: FaultSet,
    ) -> web.StreamResponse:
        all_headers = {
            "Content-Type": content_type,
            "Server": "scaffolding on HTTPServer2",
            "Vary": "Origin, X-Origin, Referer",
            **(headers or {}),
        }
        entry.http_status, entry.bytes_out = http_status, len(body)
        deliver = fault_set.stage("deliver")
        if deliver is None:
            compress = self._config.gzip and "gzip" in request.headers.get("Accept-Encoding", "")
            deliver = delivery.gzipped if compress else delivery.whole
        hang_s = self._config.hang_s
        seconds = hang_s if fault_set.seconds is None else min(fault_set.seconds, hang_s)
        response: web.StreamResponse = await deliver(
            delivery.OutgoingAnswer(request, http_status, body, all_headers, seconds)
        )
        if (
            not response.prepared
            and request.transport is not None
            and not request.transport.is_closing()
        ):
            # Send here and not in the framework: the audit records the time of the last byte.
            await response.prepare(request)
            await response.write_eof()
        return response

    def _latency_s(self, image_request: ImageRequest, rng: random.Random) -> float:
        if self._config.realistic_latency:
            # Measured distribution: most near the median, some twice as long; longer with many
            # reference images.
            median_s = image_request.model.size(image_request.image_size).latency_s
            return median_s * rng.lognormvariate(0, 0.25) * (1 + len(image_request.references) / 5)
        return self._config.latency_s


def _server_timeout_s(request: web.Request) -> float | None:
    try:
        return float(request.headers["X-Server-Timeout"])
    except (KeyError, ValueError):
        return None


def _count_images(answer: Any) -> int:
    """Return 1 if the answer has an image that is not a draft, else 0."""
    try:
        parts = answer["candidates"][0]["content"]["parts"]
        return int(
            any({"inlineData", "fileData"} & {*part} and not part.get("thought") for part in parts)
        )
    except (KeyError, IndexError, TypeError):
        return 0


def _tier(answer: Any) -> str | None:
    """Return the service tier that an answer names, which its header repeats."""
    usage = answer.get("usageMetadata") if isinstance(answer, dict) else None
    return usage.get("serviceTier") if isinstance(usage, dict) else None
