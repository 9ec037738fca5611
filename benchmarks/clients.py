"""The clients that are compared, one a process: `python benchmarks/clients.py NAME`, a scenario a line on stdin, its figures on stdout.

engine            this package as people run it: durable files, and the ledger that processes share
engine-light      the same without sha256 and fsync
engine-memory     without fsync, and with a ledger in memory
aiohttp-discard   reads the answer and keeps nothing
aiohttp-whole     the obvious way: reads all, parses it, decodes it, writes it
aiohttp-bare      reads the answer into memory, for tiny ones
genai             google-genai's async client, on aiohttp, writing plain files
genai-bare        the same without files
"""

import asyncio
import base64
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from measure import Round, peak_rss_bytes

HEARTBEAT_S = 0.002
PROMPT = "A cute robot mascot, number {}"
MODEL = "gemini-3-pro-image-preview"
Scenario = dict[str, Any]


# --- the obvious ways -------------------------------------------------------------------------------------------------


async def each(scenario: Scenario, work: Callable[[int], Awaitable[None]]) -> None:
    """Do the work for each call, with so many in flight."""
    numbers = iter(range(scenario["calls"]))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    async with asyncio.TaskGroup() as workers:
        for _ in range(min(scenario["in_flight"], scenario["calls"])):
            workers.create_task(worker())


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def body_of(scenario: Scenario, number: int) -> dict[str, Any]:
    """Return a request, its images whole in memory, as one would write it first."""
    parts: list[dict[str, Any]] = [{"text": PROMPT.format(number)}]
    if inputs := scenario.get("inputs"):
        data = base64.b64encode(read(inputs[number % len(inputs)])).decode()
        parts.insert(0, {"inlineData": {"mimeType": "image/png", "data": data}})
    return {"contents": [{"parts": parts}], "generationConfig": {"responseModalities": ["IMAGE"]}}


async def over_aiohttp(scenario: Scenario, keep: Callable[[Any, Path], Awaitable[None]]) -> None:
    import aiohttp

    url = f"{scenario['url']}/v1beta/models/{MODEL}:generateContent"
    connector = aiohttp.TCPConnector(limit=scenario["in_flight"])
    folder = Path(scenario["folder"])
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=600)
    ) as session:

        async def call(number: int) -> None:
            async with session.post(
                url, json=body_of(scenario, number), headers={"x-goog-api-key": "none"}
            ) as response:
                await keep(response, folder / f"{number}.png")

        await each(scenario, call)


async def aiohttp_discard(scenario: Scenario) -> None:
    async def keep(response: Any, _path: Path) -> None:
        while await response.content.readany():
            pass

    await over_aiohttp(scenario, keep)


async def aiohttp_whole(scenario: Scenario) -> None:
    async def keep(response: Any, path: Path) -> None:
        answer = json.loads(await response.read())
        for part in answer["candidates"][0]["content"]["parts"]:
            if "inlineData" in part:
                write(path, base64.b64decode(part["inlineData"]["data"]))

    await over_aiohttp(scenario, keep)


async def aiohttp_bare(scenario: Scenario) -> None:
    async def keep(response: Any, _path: Path) -> None:
        await response.read()

    await over_aiohttp(scenario, keep)


async def over_genai(scenario: Scenario, keep: Callable[[Path, bytes], object]) -> None:
    from google import genai
    from google.genai import types

    options = types.HttpOptions(base_url=scenario["url"], api_version="v1beta", timeout=600_000)
    config = types.GenerateContentConfig(response_modalities=["IMAGE"])
    folder = Path(scenario["folder"])
    async with genai.Client(api_key="none", http_options=options).aio as client:

        async def call(number: int) -> None:
            contents: list[Any] = [PROMPT.format(number)]
            if inputs := scenario.get("inputs"):
                data = read(inputs[number % len(inputs)])
                contents.insert(0, types.Part.from_bytes(data=data, mime_type="image/png"))
            answer = await client.models.generate_content(
                model=MODEL, contents=contents, config=config
            )
            for part in answer.candidates[0].content.parts:
                if part.inline_data:
                    keep(folder / f"{number}.png", part.inline_data.data)

        await each(scenario, call)


async def genai_files(scenario: Scenario) -> None:
    await over_genai(scenario, write)


async def genai_bare(scenario: Scenario) -> None:
    await over_genai(scenario, lambda _path, _data: None)


# --- this package -----------------------------------------------------------------------------------------------------


class Engine:
    """This package by its real road, from the manifest to the summary, with a quota that binds nothing and yet is asked."""

    def __init__(self, *, in_memory: bool = False, fsync: bool = True, sha256: bool = True) -> None:
        from gemini_batch.engine import setup
        from gemini_batch.quota.shared import SharedLedger
        from gemini_batch.quota.storage import MemoryStorage
        from gemini_batch.records import Limits

        self._setup = setup
        self._limits = Limits(requests_per_min=1_200_000)  # more than it does
        # Without one, the engine takes the ledger that all runs of this machine share.
        self._ledger = SharedLedger(MemoryStorage(), self._limits) if in_memory else None
        if not fsync:
            os.fsync = os.fdatasync = lambda _descriptor: None  # type: ignore[assignment]
            os.posix_fadvise = lambda *_range: None  # type: ignore[assignment] # starts the writing
        if not sha256:
            hashlib.sha256 = _no_sha256  # type: ignore[assignment]

    async def __call__(self, scenario: Scenario) -> None:
        from gemini_batch.config import Settings
        from gemini_batch.progress.run_state import RunState
        from gemini_batch.progress.text_log import TextLog
        from gemini_batch.progress.view import RunInfo
        from gemini_batch.progress.writer_thread import WriterThread

        folder = Path(scenario["folder"])
        os.environ["GEMINI_BATCH_STATE_DIR"] = str(folder / "state")
        manifest = folder / "jobs.jsonl"
        write_manifest(manifest, scenario)
        config = Settings(
            tier="benchmark",
            limits=self._limits,
            endpoint=scenario["url"],
            base_url=scenario["url"],
            model=MODEL,
            api_key="none",
            concurrency=scenario["in_flight"],
        )
        out = WriterThread[str](lambda _lines: None, dropped_line=str)
        info, state = RunInfo("jobs.jsonl", "", is_quiet=True), RunState(self._limits)
        say = TextLog(info, state, out.write, out.flush).observe
        with self._setup.open_run(manifest, folder / "out", config, say, self._ledger) as run:
            summary = await run.send(scenario["url"])
        if summary.exit_code:
            raise SystemExit(
                f"the run ended with {summary.exit_code!r}: {summary.stops} {summary.by_status}"
            )


def write_manifest(path: Path, scenario: Scenario) -> None:
    inputs = scenario.get("inputs")
    with path.open("w", encoding="utf-8") as file:
        for number in range(scenario["calls"]):
            images = [inputs[number % len(inputs)]] if inputs else []
            job = {"id": f"image-{number}", "prompt": PROMPT.format(number), "images": images}
            file.write(json.dumps(job) + "\n")


_SHA256 = hashlib.sha256


def _no_sha256(data: bytes | None = None) -> Any:
    """Return a hash that costs nothing, for images; what is given whole is a name, and hashed as ever."""
    if data is not None:
        return _SHA256(data)
    return SimpleNamespace(update=lambda _data: None, hexdigest=lambda: "0" * 64)


CLIENTS: dict[str, Callable[[], Callable[[Scenario], Awaitable[None]]]] = {
    "engine": Engine,
    "engine-light": lambda: Engine(fsync=False, sha256=False),
    "engine-memory": lambda: Engine(in_memory=True, fsync=False),
    "aiohttp-discard": lambda: aiohttp_discard,
    "aiohttp-whole": lambda: aiohttp_whole,
    "aiohttp-bare": lambda: aiohttp_bare,
    "genai": lambda: genai_files,
    "genai-bare": lambda: genai_bare,
}


# --- to be measured ---------------------------------------------------------------------------------------------------


async def heartbeat(late_s: list[float]) -> None:
    """Note how late the event loop comes back to one who sleeps for a moment."""
    while True:
        due_s = time.perf_counter() + HEARTBEAT_S
        await asyncio.sleep(HEARTBEAT_S)
        late_s.append(time.perf_counter() - due_s)


async def measured(client: Callable[[Scenario], Awaitable[None]], scenario: Scenario) -> Round:
    """Return what the process took for one round."""
    late_s: list[float] = []
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    beating = asyncio.create_task(heartbeat(late_s)) if scenario.get("stalls", True) else None
    await client(scenario)
    wall_s, cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    if beating:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
    late_s = sorted(late_s) or [0.0]
    calls = scenario["calls"]
    return {
        "wall_s": wall_s,
        "calls_a_s": calls / wall_s,
        "cpu_ms_a_call": 1000 * cpu_s / calls,
        "peak_rss_mb": peak_rss_bytes() / 1e6,
        "stall_max_ms": 1000 * late_s[-1],
        "stall_p99_ms": 1000 * late_s[int(0.99 * len(late_s))],
    }


def main() -> None:
    client = CLIENTS[sys.argv[1]]()
    for line in sys.stdin:
        scenario = json.loads(line)
        gc.collect()
        print(json.dumps(asyncio.run(measured(client, scenario))), flush=True)


if __name__ == "__main__":
    main()
