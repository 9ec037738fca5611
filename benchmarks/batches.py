"""How fast, and in how much memory, the files of a batch are read and sent: results line by line, requests as they are uploaded."""

import asyncio
import base64
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from measure import Goal, Report, Round, arguments, median, peak_rss_bytes, ratio, workplace
from server import answer, png

MODEL = "gemini-3-pro-image-preview"
NAME = "files/batch-0"
KEY = "AIzaSyA-key-of-39-letters-as-Google-has"
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "MB": lambda rounds: f"{median(rounds, 'megabytes'):,.0f}",
    "lines": lambda rounds: f"{median(rounds, 'lines'):,.0f}",
    "CPU s": lambda rounds: f"{median(rounds, 'cpu_s'):.2f}",
    "MB a CPU second": lambda rounds: f"{median(rounds, 'mb_a_cpu_s'):,.0f}",
    "MB/s": lambda rounds: f"{median(rounds, 'mb_a_s'):,.0f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
}
# Bytes of an image, and lines.
LARGE, SMALL = (8_250_000, 91), (1_800, 100_000)
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
# A file has at most 2 GB; with texts alone that would be four million requests.
UPLOADS = {"image": 1_800_000_000, "text": 180_000_000}


# --- the server, in a process of its own ------------------------------------------------------------------------------


@cache
def result(size_bytes: int) -> bytes:
    """Return a response with an image of so many bytes."""
    value = orjson.loads(answer(0))
    image = PNG_HEAD + random.Random(5).randbytes(size_bytes)
    data = base64.b64encode(image).decode()
    value["candidates"][0]["content"]["parts"][1]["inlineData"]["data"] = data
    return orjson.dumps(value)


def lines(size_bytes: int, count: int, key: bytes = b"%d") -> Iterator[bytes]:
    """Yield the lines of a result file; the key is behind the image, as Google writes it."""
    response = result(size_bytes)
    for number in range(count):
        yield b'{"response":%b,"key":"%b"}\n' % (response, key % number)


async def serve() -> None:
    """Answer downloads `/SIZE,COUNT[,KEY]/…`, uploads and looks at a batch; print the port, and end with stdin."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                kind, path, _ = head.split(" ", 2)
                if (kind == "GET" and ":download" not in path) or kind == "DELETE":
                    look(writer)
                else:
                    await (download if kind == "GET" else upload)(head, reader, writer)
        except (EOFError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def look(writer: asyncio.StreamWriter) -> None:
    """Answer that a batch has succeeded."""
    operation = b'{"name":"batches/b","metadata":{"state":"BATCH_STATE_SUCCEEDED","output":{"responsesFile":"files/batch-0"}},"done":true}'
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(operation), operation))


async def download(head: str, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    found = re.match(r"GET /(\d+),(\d+)(?:,([^/]+))?/", head)
    assert found
    size_bytes, count, key = int(found[1]), int(found[2]), (found[3] or "%d").encode()
    first = len(next(lines(size_bytes, 1, key)))
    total = first * count + sum(len(str(n)) - 1 for n in range(count))
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
    for line in lines(size_bytes, count, key):
        writer.write(line)
        await writer.drain()


async def upload(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    found = re.search(r"(?i)\ncontent-length: (\d+)", head)
    command = re.search(r"(?i)\nx-goog-upload-command: (.*)\r", head)
    assert found
    assert command
    left = int(found[1])
    while left:
        left -= len(await reader.read(min(left, 1 << 18)))
    headers, body = "X-Goog-Upload-Status: active", b""
    if command[1] == "start":
        headers += "\r\nX-Goog-Upload-URL: /upload?upload_id=0123456789"
    elif "finalize" in command[1]:
        headers, body = "X-Goog-Upload-Status: final", b'{"file":{"name":"files/in"}}'
    writer.write(
        f"HTTP/1.1 200 OK\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    await writer.drain()


@contextmanager
def server() -> Iterator[str]:
    """Start the server and give its address."""
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()


# --- the clients, each round in a process of its own ------------------------------------------------------------------


@asynccontextmanager
async def opened(base_url: str) -> AsyncIterator[Any]:
    """Open the files of a server."""
    from gemini_batch.client.files import Files
    from gemini_batch.client.rest import RestSession
    from gemini_batch.clock import Clock
    from gemini_batch.config import Settings
    from gemini_batch.records import Limits

    config = Settings("free", Limits(), base_url, base_url, MODEL, api_key=KEY)
    async with RestSession(config, base_url, Clock()) as session, Files(session) as files:
        yield files


async def results(url: str, folder: Path) -> int:
    """Read the lines as a run does: each image into a file, hashed; the file is removed again."""
    from gemini_batch.client.results import Results
    from gemini_batch.output import OutputFolder

    store = OutputFolder(folder)
    (store.private / "incoming").mkdir(parents=True)
    count, number = 0, iter(range(10**9))
    async with opened(url) as files:
        reader = Results(files, NAME, lambda: store.stage(f"line-{next(number)}", 1))
        async for line in reader.lines():
            assert line.key == str(count), line
            line.sink.discard()
            count += 1
        assert reader.failure is None
    return count


async def whole(url: str, _folder: Path) -> int:
    """Read the lines in the obvious way: each one whole, parsed, and its image decoded."""
    count, target = 0, f"{url}/v1beta/{NAME}:download"
    async with aiohttp.ClientSession(read_bufsize=1 << 25) as session, session.get(target) as got:
        async for line in got.content:
            parts = orjson.loads(line)["response"]["candidates"][0]["content"]["parts"]
            base64.b64decode(parts[1]["inlineData"]["data"])
            count += 1
    return count


async def discard(url: str, _folder: Path) -> int:
    """Read and keep nothing."""
    target = f"{url}/v1beta/{NAME}:download"
    async with aiohttp.ClientSession() as session, session.get(target) as response:
        async for _ in response.content.iter_any():
            pass
    return 0


async def requests(url: str, folder: Path, size_bytes: int) -> int:
    """Upload requests that each have a picture of 5 MB, or, with none, a prompt of 300 letters."""
    from gemini_batch.client import request_json
    from gemini_batch.records import InputImage, Request, Text

    parts: list[Any] = [Text("A cute robot mascot. " * 15)]
    if "/image/" in url:
        file = folder / "a.png"
        file.write_bytes(png(5_000_000))
        seen = file.stat()
        parts.append(
            InputImage("a.png", str(file), "image/png", seen.st_size, seen.st_mtime_ns, "")
        )
    one = request_json.content_length(request_json.line("0" * 9, Request(MODEL, tuple(parts))))
    count = size_bytes // one

    def segments() -> Iterator[Any]:
        for number in range(count):
            yield from request_json.line(f"{number:09}", Request(MODEL, tuple(parts)))

    async with opened(url) as files:
        file = await files.upload("mine", one * count, segments)
        assert file.name == "files/in", file
    return count


CLIENTS: dict[str, Callable[..., Any]] = {
    "results": results,
    "whole": whole,
    "discard": discard,
    "requests": requests,
}


def client(name: str, url: str, folder: str, megabytes: str) -> None:
    """Run a client once, and print its figures."""
    size = [int(float(megabytes) * 1e6)] if name == "requests" else []
    cpu_s, started_s = time.process_time(), time.perf_counter()
    count = asyncio.run(CLIENTS[name](url, Path(folder), *size))
    cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - started_s
    figures = {
        "megabytes": float(megabytes),
        "lines": count,
        "cpu_s": cpu_s,
        "mb_a_cpu_s": float(megabytes) / cpu_s,
        "mb_a_s": float(megabytes) / took_s,
        "peak_rss_mb": peak_rss_bytes() / 1e6,
    }
    print(json.dumps(figures))


def measured(names: Sequence[str], url: str, folder: Path, megabytes: float, repeats: int) -> Any:
    """Return the rounds of each client, which take turns."""
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    for number in range(repeats):
        for name in names:
            here = folder / f"{name}-{len(list(folder.iterdir()))}-{number}"
            here.mkdir()
            command = [sys.executable, __file__, "client", name, url, str(here), str(megabytes)]
            ended = subprocess.run(command, check=True, stdout=subprocess.PIPE)
            rounds[name].append(json.loads(ended.stdout))
    return rounds


def main() -> None:
    options = arguments(__doc__, repeats=3)
    report = Report("Batches", options)
    share = 10 if options.quick else 1
    with workplace(options.folder) as folder, server() as base:
        size_bytes, count = LARGE
        megabytes = len(next(lines(size_bytes, 1))) * (count // share) / 1e6
        url = f"{base}/{size_bytes},{count // share}"
        names = ("results", "whole", "discard")
        rounds = measured(names, url, folder, megabytes, options.repeats)
        report.compared("Results, 11 MB a line", rounds, COLUMNS)
        report.goals += [
            Goal("CPU, 11 MB a line", median(rounds["results"], "mb_a_cpu_s"), "MB/s", least=150),
            Goal(
                "peak RSS, 11 MB a line", median(rounds["results"], "peak_rss_mb"), "MB", most=150
            ),
            Goal(
                "CPU, 11 MB a line, against parsing each line whole",
                ratio(rounds, "cpu_s", "results", "whole"),
                most=0.9,
            ),
        ]
        size_bytes, count = SMALL
        megabytes = len(next(lines(size_bytes, 1))) * (count // share) / 1e6
        url = f"{base}/{size_bytes},{count // share}"
        rounds = measured(("results", "whole"), url, folder, megabytes, options.repeats)
        report.compared("Results, 3 kB a line", rounds, COLUMNS)
        seconds = median(rounds["results"], "cpu_s")
        report.goals += [
            Goal(f"CPU, {count // share:,} lines of 3 kB", seconds, "s", most=60 / share),
            Goal("peak RSS, 3 kB a line", median(rounds["results"], "peak_rss_mb"), "MB", most=150),
        ]
        for kind, size_bytes in UPLOADS.items():
            megabytes = size_bytes / share / 1e6
            rounds = measured(("requests",), f"{base}/{kind}/v1beta", folder, megabytes, 1)
            report.compared(f"Requests, {kind}", rounds, COLUMNS)
            peak = median(rounds["requests"], "peak_rss_mb")
            report.goals.append(Goal(f"peak RSS, uploading, {kind}", peak, "MB", most=150))
    report.write()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            asyncio.run(serve())
        case ["client", *rest]:
            client(*rest)
        case _:
            main()
