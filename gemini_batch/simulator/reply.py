"""Answers one request that was let in: draws, waits as a model would, spoils as the faults say, and sends."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web

from gemini_batch.simulator import answers, bodies, delivery, pictures
from gemini_batch.simulator.answers import Scene
from gemini_batch.simulator.audit import Entry
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.checks import Ask
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.faults import NO_FAULT, Chosen

T = TypeVar("T")

_PICTURE_THREADS = 4


class Replies:
    """Sends every answer of a simulator, good ones and others."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock) -> None:
        self._config = config
        self._clock = clock
        self._answered: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_PICTURE_THREADS, thread_name_prefix="simulator")

    def close(self) -> None:
        """End the threads that draw."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def answer(
        self, request: web.Request, entry: Entry, ask: Ask, chosen: Chosen
    ) -> web.StreamResponse:
        """Answer a good request."""
        entry.faults = chosen.names
        rng = random.Random(
            f"{self._config.seed}/{ask.sha256}/{self._answered[ask.sha256]}/{chosen.names}"
        )
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._latency_s(ask, rng)
        deadline_s = _server_timeout_s(request)
        if deadline_s is not None and loop.time() + deadline_s < due_s:
            await asyncio.sleep(deadline_s)
            late = bodies.error(504, "Deadline expired before operation could complete.")
            return await self.refuse(request, entry, late)
        fails: Callable[[Scene], ErrorBody] | None = chosen.stage("error")
        if fails is not None:
            await asyncio.sleep(due_s - loop.time())
            no_picture = pictures.Picture(b"", ask.model.mime_type)
            return await self.refuse(
                request, entry, fails(Scene(ask, no_picture, rng, self._config)), chosen
            )
        variation = self._answered[ask.sha256] if self._config.vary else 0
        self._answered[ask.sha256] += 1
        body, entry.images = await loop.run_in_executor(
            self._threads, self._body, ask, chosen, rng, variation
        )
        await asyncio.sleep(max(0.0, due_s - loop.time()))
        return await self._send(request, entry, 200, body, bodies.JSON_TYPE, chosen=chosen)

    async def refuse(
        self, request: web.Request, entry: Entry, refusal: ErrorBody, chosen: Chosen | None = None
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
            chosen=chosen or NO_FAULT,
        )

    def _body(
        self, ask: Ask, chosen: Chosen, rng: random.Random, variation: int
    ) -> tuple[bytes, int]:
        """Return the bytes of a 200 and the number of its pictures; blocks."""
        config = self._config
        picture = pictures.draw(
            ask,
            seed=config.seed,
            variation=variation,
            longest=config.pixels,
            image_bytes=config.image_bytes,
        )
        scene = Scene(ask, picture, rng, config)
        answer: Any = answers.with_picture(scene)
        shape, write = chosen.stage("shape"), chosen.stage("write")
        if shape is not None:
            answer = shape(scene, answer)
        plain = answers.pretty if config.pretty else answers.compact
        return (write or plain)(answer), _count_images(answer)

    async def _send(
        self,
        request: web.Request,
        entry: Entry,
        http_status: int,
        body: bytes,
        content_type: str,
        *,
        headers: Mapping[str, str] | None = None,
        chosen: Chosen,
    ) -> web.StreamResponse:
        all_headers = {
            "Content-Type": content_type,
            "Server": "scaffolding on HTTPServer2",
            "Vary": "Origin, X-Origin, Referer",
            **(headers or {}),
        }
        entry.http_status, entry.bytes_out = http_status, len(body)
        deliver = chosen.stage("deliver")
        if deliver is None:
            compress = self._config.gzip and "gzip" in request.headers.get("Accept-Encoding", "")
            deliver = delivery.gzipped if compress else delivery.whole
        hang_s = self._config.hang_s
        seconds = hang_s if chosen.seconds is None else min(chosen.seconds, hang_s)
        response: web.StreamResponse = await deliver(
            delivery.Parcel(request, http_status, body, all_headers, seconds)
        )
        if (
            not response.prepared
            and request.transport is not None
            and not request.transport.is_closing()
        ):
            # Sent here and not by the framework, so that the audit knows when the last byte left.
            await response.prepare(request)
            await response.write_eof()
        return response

    def _latency_s(self, ask: Ask, rng: random.Random) -> float:
        if self._config.realistic_latency:
            # Spread as measured: most near the median, some twice as long; more with many reference images.
            median_s = ask.model.size(ask.image_size).latency_s
            return median_s * rng.lognormvariate(0, 0.25) * (1 + len(ask.references) / 5)
        return self._config.latency_s


def _server_timeout_s(request: web.Request) -> float | None:
    try:
        return float(request.headers["X-Server-Timeout"])
    except (KeyError, ValueError):
        return None


def _count_images(answer: Any) -> int:
    """Count the pictures that are not drafts: 0 or 1, whatever a fault has made of the answer."""
    try:
        parts = answer["candidates"][0]["content"]["parts"]
        return int(any("inlineData" in part and not part.get("thought") for part in parts))
    except (KeyError, IndexError, TypeError):
        return 0
