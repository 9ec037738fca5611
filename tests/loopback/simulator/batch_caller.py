"""A client of files and batches that knows nothing of the product's."""

import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from gemini_batch.simulator import Simulator
from tests.loopback.simulator.client import PRO, Got, calling

KEY = {"x-goog-api-key": "any"}
CHUNK_BYTES = 8 * 1024 * 1024


def line(key: str | None, prompt: str, **fields: Any) -> bytes:
    """Return a line of an input file."""
    request = {"contents": [{"parts": [{"text": prompt}]}], **fields}
    named = {} if key is None else {"key": key}
    return json.dumps({**named, "request": request}).encode() + b"\n"


def lines(*prompts: str) -> bytes:
    """Return an input file whose keys are `0`, `1` and so on."""
    return b"".join(line(str(number), prompt) for number, prompt in enumerate(prompts))


@dataclass
class BatchCaller:
    """A simulator and a client of its files and batches."""

    simulator: Simulator
    session: aiohttp.ClientSession

    async def send(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        content: Any = None,
        headers: Mapping[str, str] = KEY,
    ) -> Got:
        """Send one request; `path` may be a whole URL."""
        url = path if path.startswith("http") else self.simulator.base_url + path
        async with self.session.request(
            method,
            url,
            data=None if data is None else io.BytesIO(data),
            json=content,
            headers=headers,
            allow_redirects=False,
        ) as response:
            return Got(response.status, await response.read(), response.headers)

    # --- files ---

    async def start(
        self,
        size_bytes: int | None = None,
        *,
        name: str = "lines",
        **headers: str,
    ) -> Got:
        """Start an upload."""
        sent = {
            **KEY,
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            **(
                {}
                if size_bytes is None
                else {"X-Goog-Upload-Header-Content-Length": str(size_bytes)}
            ),
            **headers,
        }
        content = {"file": {"displayName": name, "mimeType": "text/plain"}}
        return await self.send("POST", "/upload/v1beta/files", content=content, headers=sent)

    async def chunk(
        self,
        url: str,
        data: bytes,
        offset: int,
        command: str = "upload, finalize",
        method: str = "POST",
    ) -> Got:
        """Send a part of a file, without a key."""
        headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
        return await self.send(method, url, data=data, headers=headers)

    async def query(self, url: str, command: str = "query") -> tuple[str, int]:
        """Return the status of an upload and the bytes that the server has."""
        got = await self.send("POST", url, headers={"X-Goog-Upload-Command": command})
        assert got.status == 200
        return got.headers["X-Goog-Upload-Status"], int(got.headers["X-Goog-Upload-Size-Received"])

    async def upload_url(self, size_bytes: int | None = None, *, name: str = "lines") -> str:
        """Start an upload and return its address."""
        return (await self.start(size_bytes, name=name)).headers["X-Goog-Upload-URL"]

    async def upload(self, data: bytes, *, name: str = "lines") -> str:
        """Upload a file in one request and return its name."""
        got = await self.chunk(await self.upload_url(len(data), name=name), data, 0)
        assert got.status == 200, got.body
        return str(got.json["file"]["name"])

    # --- batches ---

    async def create(
        self, file: str, *, name: str = "batch", model: str = PRO, headers: Mapping[str, str] = KEY
    ) -> Got:
        """Ask for a batch of a file."""
        content = {"batch": {"displayName": name, "inputConfig": {"fileName": file}}}
        path = f"/v1beta/models/{model}:batchGenerateContent"
        return await self.send("POST", path, content=content, headers=headers)

    async def run(self, *prompts: str, name: str = "batch") -> str:
        """Make a batch of these prompts and return its name."""
        got = await self.create(await self.upload(lines(*prompts)), name=name)
        assert got.status == 200, got.body
        return str(got.json["name"])

    async def get(self, name: str, headers: Mapping[str, str] = KEY) -> Got:
        """Get a batch."""
        return await self.send("GET", f"/v1beta/{name}", headers=headers)

    async def state(self, name: str) -> str:
        """Return the state of a batch."""
        return str((await self.get(name)).json["metadata"]["state"])

    async def listed(self) -> list[str]:
        """Return the names of the first page of batches."""
        got = await self.send("GET", "/v1beta/batches")
        return [item["name"] for item in got.json.get("operations", [])]

    async def download(self, name: str, range_: str | None = None) -> Got:
        """Download the result file of a batch."""
        headers = KEY if range_ is None else {**KEY, "Range": range_}
        path = f"/download/v1beta/files/batch-{name.removeprefix('batches/')}:download?alt=media"
        return await self.send("GET", path, headers=headers)

    async def results(self, name: str) -> list[dict[str, Any]]:
        """Return the lines of the result file of a batch."""
        got = await self.download(name)
        assert got.status == 200, got.body
        return [json.loads(text) for text in got.body.splitlines()]


@asynccontextmanager
async def batching(**config: Any) -> AsyncIterator[BatchCaller]:
    """Run a simulator with tiny pictures, whose batches end at once, and a client of it."""
    async with calling(**config) as caller:
        yield BatchCaller(caller.simulator, caller.session)


def keys(results: Sequence[Mapping[str, Any]]) -> list[str | None]:
    """Return the keys of results."""
    return [result.get("key") for result in results]
