"""What the tests of the simulator share: quick simulators, small requests, a client that knows nothing."""

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from PIL import Image

from gemini_batch.clock import Clock
from gemini_batch.simulator import Simulator, SimulatorConfig

PRO = "gemini-3-pro-image-preview"
FLASH = "gemini-3.1-flash-image"
FLASH_25 = "gemini-2.5-flash-image"


@dataclass(frozen=True)
class Got:
    """A whole answer."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The error's message."""
        return str(self.json["error"]["message"])

    def details(self, name: str) -> dict[str, Any]:
        """Return the error's detail of the type `google.rpc.<name>`."""
        found = [
            item
            for item in self.json["error"]["details"]
            if item["@type"] == f"type.googleapis.com/google.rpc.{name}"
        ]
        assert len(found) == 1
        return dict(found[0])

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The first candidate's parts."""
        return list(self.json["candidates"][0]["content"]["parts"])

    def pictures(self) -> list[Image.Image]:
        """Return the pictures of the answer, decoded."""
        return [
            Image.open(io.BytesIO(base64.b64decode(part["inlineData"]["data"], validate=True)))
            for part in self.parts
            if "inlineData" in part
        ]


@dataclass
class Caller:
    """A simulator and a client of it."""

    simulator: Simulator
    session: aiohttp.ClientSession

    def url(self, model: str = PRO, version: str = "v1beta") -> str:
        """Return the URL of `generateContent`."""
        return f"{self.simulator.base_url}/{version}/models/{model}:generateContent"

    async def post(
        self,
        request: Any,
        *,
        model: str = PRO,
        version: str = "v1beta",
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> Got:
        """Send a request, of JSON or of bytes as they are, with the key `any` unless `headers` are given."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        sent = {"x-goog-api-key": "any"} if headers is None else dict(headers)
        async with self.session.post(
            self.url(model, version) + query,
            data=io.BytesIO(data),
            headers=sent,
            allow_redirects=False,
        ) as response:
            return Got(response.status, await response.read(), response.headers)

    async def ask(self, prompt: str, **fields: Any) -> Got:
        """Ask for a picture."""
        return await self.post(text(prompt), **fields)


@asynccontextmanager
async def calling(**config: Any) -> AsyncIterator[Caller]:
    """Run a simulator without limits and without latency, whose pictures are tiny, and a client of it."""
    quick: dict[str, Any] = {"tier": "unlimited", "latency_s": 0, "pixels": 32, "hang_s": 5}
    async with (
        Simulator(SimulatorConfig(**quick | config)) as simulator,
        # No transparent decompression: a test sees what was sent.
        aiohttp.ClientSession(
            auto_decompress=False, skip_auto_headers=("Accept-Encoding",)
        ) as session,
    ):
        yield Caller(simulator, session)


async def until(true: Callable[[], bool]) -> None:
    """Let the simulator go on until this is true, for a minute at most."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 # a request is still on its way through the sockets
            await asyncio.sleep(0)


def text(prompt: str, **generation_config: Any) -> dict[str, Any]:
    """Return a request for a picture of `prompt`."""
    request: dict[str, Any] = {"contents": [{"parts": [{"text": prompt}]}]}
    return request | {"generationConfig": generation_config} if generation_config else request


def with_images(prompt: str, *images: bytes, mime_type: str = "image/png") -> dict[str, Any]:
    """Return a request with reference images before the prompt."""
    parts: list[dict[str, Any]] = [
        {"inlineData": {"mimeType": mime_type, "data": base64.b64encode(image).decode()}}
        for image in images
    ]
    return {"contents": [{"parts": [*parts, {"text": prompt}]}]}


def image(colour: str = "red", size: tuple[int, int] = (40, 30), form: str = "PNG") -> bytes:
    """Return a small image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, form)
    return file.getvalue()


class SetTime:
    """A time that only moves when a test says so."""

    def __init__(self, at: datetime = datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC)) -> None:
        self.began = at
        self.passed_s = 0.0

    def __call__(self) -> Clock:
        """Return the clock for a config."""
        return Clock(
            steady_s=lambda: 1000.0 + self.passed_s,
            utc=lambda: self.began + timedelta(seconds=self.passed_s),
        )
