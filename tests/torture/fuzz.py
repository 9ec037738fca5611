"""Damaged manifests, answers and results: for each an exit code and words for a person, never a traceback."""

import asyncio
import gzip
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from gemini_batch.client import request_json
from gemini_batch.engine import setup
from gemini_batch.errors import StorageError
from gemini_batch.inputs import Inputs
from gemini_batch.manifest import Manifest, PlainJobs
from gemini_batch.output.rows import read_rows
from gemini_batch.plan import Planner
from gemini_batch.quota.shared import SharedLedger
from gemini_batch.quota.storage import MemoryStorage
from gemini_batch.records import exact_json
from gemini_batch.records.job import Job
from tests import dresses
from tests.torture.commands import Ended, command, run
from tests.virtual.desk import CONFIG

Strategy = st.SearchStrategy[bytes]

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        [10**400, -1, "../../x", "a/../b", "\ud800", "\x00", "NaN", "1e999", "images/n0.jpg"]
    )
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def _json(value: Any) -> bytes:
    """Return JSON as Python writes it: with NaN, lone surrogates and numbers without end, as other programs do too."""
    import json

    return json.dumps(value).encode()


def damaged(good: list[dict[str, Any]]) -> Strategy:
    """Return a strategy of texts that were one of these objects: a field replaced, removed or added, a byte changed, the end cut."""

    @st.composite
    def texts(draw: st.DrawFn) -> bytes:
        value = orjson.loads(orjson.dumps(draw(st.sampled_from(good))))
        for _ in range(draw(st.integers(0, 3))):
            _change(draw, value)
        text = _json(value)
        match draw(st.integers(0, 5)):
            case 0:
                place = draw(st.integers(0, len(text)))
                text = (
                    text[:place]
                    + draw(st.binary(max_size=6))
                    + text[place + draw(st.integers(0, 6)) :]
                )
            case 1:
                text = text[: draw(st.integers(0, len(text)))]
            case _:
                pass
        return text

    return texts() | st.binary(max_size=60) | _VALUES.map(_json)


def _change(draw: st.DrawFn, value: Any) -> None:
    """Change one thing somewhere in it."""
    while True:
        places = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not places:
            return
        place = draw(st.sampled_from(places))
        if isinstance(value[place], dict | list) and value[place] and draw(st.booleans()):
            value = value[place]
            continue
        if isinstance(value, dict) and draw(st.integers(0, 3)) == 0:
            del value[place]
        else:
            value[place] = draw(_VALUES)
        return


# --- manifests --------------------------------------------------------------------------------------------------------

JOBS: list[dict[str, Any]] = [
    {
        "id": "robot",
        "prompt": "A robot",
        "aspect_ratio": "16:9",
        "image_size": "2K",
        "seed": 7,
        "temperature": 1.0,
    },
    {
        "prompt": "A cat",
        "images": ["a.png", "https://x.test/b.png"],
        "variants": 3,
        "metadata": {"a": [1]},
    },
    {
        "parts": [{"text": "A"}, {"image": "a.png"}],
        "system": "Be brief",
        "modalities": ["IMAGE"],
        "model": "m",
    },
    {
        "key": "raw",
        "request": {
            "contents": [
                {
                    "parts": [
                        {"text": "A"},
                        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                    ]
                }
            ],
            "generationConfig": {"imageConfig": {"imageSize": "1K"}},
        },
    },
]
# What other programs write, and what none should: @NAME is one of the texts below.
_LINES = (
    '{"id": "a@INVISIBLE@ID", "prompt": "x", "seed": @NUMBER, "variants": @NUMBER, "images": @VALUE}',
    '{"prompt": "x", "temperature": @NUMBER, "metadata": {"n": @NUMBER, @NAME: @VALUE, @NAME: @DEEP}}',
    '{"key": "@ID", "request": {"contents": @CONTENTS, @NAME: @VALUE, "labels": {"n": @NUMBER}}}',
    '{"request": {"contents": [{"parts": @CONTENTS}], @FIELD: {@NAME: @NUMBER, "imageConfig": {@NAME: @VALUE}}}}',
    '{@NAME: @VALUE, "prompt": "x", @NAME: @VALUE, @NAME@BLANK: @NUMBER}',
    '{"parts": [{"text": "x", "image": @VALUE}, {@NAME: @VALUE}], "id": null}',
    '{"prompt": "x", "images": ["@IMAGE"], "model": null, "modalities": null}',
)
_TEXTS = {
    "INVISIBLE": ["", "", "\u202e", "\u200d", "\ufeff", "\u2028", "\U000e0041"],
    "ID": ["", "b", "/c", "\u00e9", "e\u0301"],
    "NUMBER": ["1", "42.0", "4.2e1", "-0", "1.5", "null", "true", "NaN", "-Infinity", "1e400", "1e-400", "1e23",
               "9" * 5_000, "9" * 20_000, str(2**64), str(-(2**70)), "0.1000000000000000055", "12345678901234567.89",
               "1E-99999999999999999999", "1." + "0" * 400],
    "VALUE": ["null", '"x"', "[]", "{}", '["a.png"]', "[null]", "@NUMBER", '"@NUMBER"', '{"a": 1, "a": 2}', "@DEEP"],
    "NAME": ['"prompt"', '"a"', '"id"', '"seed"', '"imagesize"', '"imageSize"', '"config"', '"newField"', '"\\u0061"', '""',
             '"\\":"', '"messages"', '"temprature"'],
    "FIELD": ['"generationConfig"', '"generation_config"', '"generationconfig"', '"config"'],
    "CONTENTS": ['{"parts": {"text": "x"}}', '[{"parts": {"inlineData": {"data": "AAAA"}}}]', '{"text": "x"}', '"x"', "null",
                 "7", '{"parts": [{"text": @NUMBER}]}', "@DEEP"],
    "DEEP": ["[[1]]", "[" * 239 + "]" * 239, "[" * 300 + "]" * 300, "[" * 3_000 + "]" * 3_000, '{"a":' * 300 + "1" + "}" * 300],
    "IMAGE": ["caf\u00e9.png", "cafe\u0301.png", "a.png", "\u0000", "\ud55c"],
    "BLANK": ["", " ", "\t", "\r"],
}  # fmt: skip


@st.composite
def _of_other_programs(draw: st.DrawFn) -> bytes:
    """Return a manifest as other programs write it, or a file of another kind."""
    lines = draw(st.lists(st.sampled_from(_LINES), min_size=1, max_size=3))
    text = "\n".join(lines)
    while "@" in text:
        text = re.sub("@([A-Z]+)", lambda name: draw(st.sampled_from(_TEXTS[name[1]])), text)
    data = text.encode(errors="surrogatepass")
    match draw(st.integers(0, 11)):
        case 0:
            return gzip.compress(data)
        case 1:
            return text.encode(draw(st.sampled_from(["utf-16", "utf-16-le", "utf-32"])))
        case 2:
            return b"[" + data.replace(b"\n", b",\n") + b"]"
        case 3:
            header = draw(
                st.sampled_from(
                    [b"id,prompt\n", b"a;b\n", b'"prompt"\t"x"\n', b"PK\3\4", b"PAR1", b"\0"]
                )
            )
            return header + data
        case 4:
            return b"\xef\xbb\xbf" + data
        case _:
            return data


MANIFEST = st.lists(damaged(JOBS), min_size=1, max_size=4).map(b"\n".join) | _of_other_programs()


def check_manifest(manifest: bytes) -> None:
    """A manifest is planned, or refused with 3 and its lines."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        (folder / "jobs.jsonl").write_bytes(manifest)
        ended = command("plan", str(folder / "jobs.jsonl"))
        assert ended.is_clean, (manifest, ended)
        assert ended.code in {0, 3}, (manifest, ended)
        assert ended.code == 0 or "jobs.jsonl" in ended.err, (manifest, ended)
        if ended.code == 0:
            _check_what_is_written(folder)


def _check_what_is_written(folder: Path) -> None:
    """What was planned can be read again, sent and written, with the numbers that it has."""
    planner = Planner("m", Inputs(folder).resolve)
    with Manifest(folder / "jobs.jsonl") as manifest:
        jobs = [job for _, job in manifest.scan()]
        for index, scanned in enumerate(chain.from_iterable(map(_one_by_one, jobs))):
            read = manifest.read(index)
            assert read is not None
            assert scanned is None or read == scanned
            call = planner.call(read, manifest.line(index), 1)
            request_json.body(call.request)
            text = orjson.dumps(call.metadata, exact_json.written)
            assert orjson.dumps(exact_json.loads(text), exact_json.written) == text


def _one_by_one(found: Job | PlainJobs) -> list[Job | None]:
    """Return what `scan` yielded, job by job; None for those of plain lines."""
    return [None] * len(found) if isinstance(found, PlainJobs) else [found]


# --- answers ----------------------------------------------------------------------------------------------------------

_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
ANSWERS: list[dict[str, Any]] = [
    {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Here", "thought": True, "thoughtSignature": "c2ln"},
                        {"inlineData": {"mimeType": "image/png", "data": _PIXEL}, "thought": True},
                        {"inlineData": {"mimeType": "image/png", "data": _PIXEL}},
                    ],
                },
                "finishReason": "STOP",
                "index": 0,
                "safetyRatings": [{"category": "HARM", "probability": "LOW", "blocked": False}],
            }
        ],
        "usageMetadata": {
            "promptTokenCount": 5,
            "candidatesTokenCount": 1120,
            "totalTokenCount": 1125,
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
        },
        "modelVersion": "m",
        "responseId": "r",
    },
    {
        "candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "no"}],
        "usageMetadata": {"totalTokenCount": 5},
    },
    {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": []}},
]
ERRORS: list[dict[str, Any]] = [
    {
        "error": {
            "code": 400,
            "message": "Bad",
            "status": "INVALID_ARGUMENT",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.BadRequest",
                    "fieldViolations": [{"field": "a", "description": "b"}],
                }
            ],
        }
    },
    {
        "error": {
            "code": 413,
            "message": "Large",
            "status": "X",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}],
        }
    },
]
_REFUSED = damaged(ERRORS).map(lambda body: (b"413 Large", body))
Dressed = tuple[list[bytes], bytes]
"""Images, the result last, and a body that holds them."""
_DRESSED = st.builds(
    lambda made, dress: (made[0], dress(made[1])), dresses.answers(), dresses.dressed()
)


def _torn(body: bytes) -> Strategy:
    """Return a strategy of bodies with some bytes changed, and the end cut."""
    return st.builds(
        lambda place, more, cut: (body[:place] + more + body[place + len(more) :])[
            : len(body) - cut
        ],
        st.integers(0, len(body)),
        st.binary(max_size=4),
        st.integers(0, len(body)) | st.just(0),
    )


_OTHERS: list[dict[str, Any]] = [
    {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}},
    {"error": "quota exceeded"},
    {"response": ANSWERS[0]},
    {"created": 1, "data": [{"b64_json": _PIXEL}]},
]
ANSWER = (
    damaged(ANSWERS).map(lambda body: (b"200 OK", body))
    | damaged(_OTHERS).map(lambda body: (b"200 OK", body))
    | _DRESSED.flatmap(lambda made: _torn(made[1])).map(lambda body: (b"200 OK", body))
    | _REFUSED
)
ANSWERS_OF_A_RUN = 25
RUN_OF_ANSWERS = st.lists(ANSWER, min_size=ANSWERS_OF_A_RUN, max_size=ANSWERS_OF_A_RUN)


@contextmanager
def saying(bodies: list[tuple[bytes, bytes]]) -> Iterator[str]:
    """Serve answers on 127.0.0.1, the n-th one to the call `n<number>`; yield the address."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), [""]
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line[15:])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            request = orjson.loads(await reader.readexactly(length))
            status, body = bodies[int(request["contents"][0]["parts"][0]["text"].split()[-1][1:])]
            writer.write(
                b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
                % (status, len(body))
                + body
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address[0] = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield address[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def check_answers(bodies: list[tuple[bytes, bytes]]) -> None:
    """Each call of a run ends with a row, whatever its answer was; nothing is written outside; `verify` agrees."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, saying(bodies) as address:
        folder = Path(name)
        jobs = (
            orjson.dumps({"id": f"n{number}", "prompt": f"Number n{number}"})
            for number in range(len(bodies))
        )
        (folder / "jobs.jsonl").write_bytes(b"\n".join(jobs))
        ended = run(folder, address, "--max-attempts", "1")
        assert ended.is_clean, (bodies, ended)
        assert ended.code in {0, 4, 6}, (bodies, ended)
        lines = (folder / "jobs.out/results.jsonl").read_bytes().splitlines()
        found = {orjson.loads(line)["id"] for line in lines}
        assert len(found) == len(lines), bodies
        expected = {f"n{number}" for number in range(len(bodies))}
        # A server that keeps answering what is no answer stops the run.
        assert found == expected or (ended.code == 6 and found < expected), (bodies, ended)
        assert {path.name for path in folder.iterdir()} == {"jobs.jsonl", "jobs.out"}, bodies
        verified = command("verify", str(folder / "jobs.out"))
        assert verified.code == 0, (bodies, verified)


RUN_OF_DRESSES = st.lists(_DRESSED, min_size=ANSWERS_OF_A_RUN, max_size=ANSWERS_OF_A_RUN)


def check_dresses(made: list[Dressed]) -> None:
    """Each picture that was paid for is kept, exactly as it is, whatever it came in."""
    bodies = [(b"200 OK", body) for _, body in made]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, saying(bodies) as address:
        folder = Path(name)
        jobs = (
            orjson.dumps({"id": f"n{number}", "prompt": f"Number n{number}"})
            for number in range(len(bodies))
        )
        (folder / "jobs.jsonl").write_bytes(b"\n".join(jobs))
        ended = run(folder, address, "--max-attempts", "1")
        assert ended.is_clean, (made, ended)
        assert ended.code == 0, (made, ended)
        for line in (folder / "jobs.out/results.jsonl").read_bytes().splitlines():
            row = orjson.loads(line)
            kept = [
                (folder / "jobs.out" / image["path"]).read_bytes()
                for image in (*row["drafts"], *row["images"])
            ]
            assert kept == made[int(row["id"][1:])][0], (made, row)
        assert not (folder / "jobs.out/.gemini_batch/unreadable").exists()


# --- results ----------------------------------------------------------------------------------------------------------

_IMAGE = {
    "path": "images/n0.png",
    "mime_type": "image/png",
    "size_bytes": 3,
    "width": 1,
    "height": 1,
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
}
_ROW: dict[str, Any] = {
    "id": "n0",
    "line": 1,
    "status": "succeeded",
    "images": [_IMAGE],
    "drafts": [],
    "text": None,
    "prompt": "Number n0",
    "inputs": [{"path": "a.png", "sha256": "0", "sent": None}],
    "finish_reason": "STOP",
    "finish_message": None,
    "block_reason": None,
    "safety_ratings": [],
    "usage": {
        "prompt_tokens": 1,
        "candidates_tokens": 2,
        "thoughts_tokens": 0,
        "total_tokens": 3,
        "by_modality": {},
    },
    "cost_usd": 0.134,
    "thinking": None,
    "model": "m",
    "model_version": "m",
    "response_id": "r",
    "endpoint": "https://generativelanguage.googleapis.com",
    "request_sha256": "0" * 64,
    "attempts": 1,
    "latency_s": 1.0,
    "sent_at": "2026-11-22T20:00:00Z",
    "finished_at": "2026-11-22T20:00:01Z",
    "error": None,
    "metadata": None,
    "reused_from": None,
    "remote_images": [],
}
ROWS: list[dict[str, Any]] = [
    _ROW,
    _ROW
    | {
        "id": "n1",
        "status": "rejected",
        "images": [],
        "error": {"http_status": 400, "status": "X", "reason": None, "message": "no"},
    },
    _ROW | {"id": "n2", "status": "blocked", "images": [], "block_reason": "SAFETY"},
]
_SUMMARY: dict[str, Any] = {
    "manifest": "jobs.jsonl",
    "exit_code": 0,
    "calls": 3,
    "left": 0,
    "run_again_at": None,
    "started_at": "2026-11-22T19:00:00Z",
    "ended_at": "2026-11-22T21:00:00Z",
    "this_run": {"finished": 3, "cost_usd": 0.402},
}
RESULTS = st.tuples(
    st.lists(damaged(ROWS) | st.sampled_from([_json(row) for row in ROWS]), max_size=4).map(
        b"\n".join
    ),
    st.booleans(),
    damaged([_SUMMARY]),
    st.binary(max_size=8) | st.integers(0, 3000).map(lambda place: b"%020d" % place),
    damaged([{"a": ["n0", "0", 0]}]) | st.just(b'\n["n0","' + b"0" * 64 + b'",0]'),
    st.sampled_from(["", "", "", "", "gone", "gz", "pipe", "device", "folder", "link"]),
)
Results = tuple[bytes, bool, bytes, bytes, bytes, str]


def check_results(results: Results) -> None:
    """Whatever is in an output folder, each command that reads it ends with a code and words; no call whose image is there is sent without them."""
    rows, has_end, summary, durable, in_flight, became = results
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        out = folder / "jobs.out"
        (out / ".gemini_batch/incoming").mkdir(parents=True)
        (out / "images").mkdir()
        (out / "images/n0.png").write_bytes(b"abc")
        (out / "results.jsonl").write_bytes(rows + b"\n" * has_end)
        (out / "summary.json").write_bytes(summary)
        (out / ".gemini_batch/durable").write_bytes(durable)
        (out / ".gemini_batch/inflight.jsonl").write_bytes(in_flight)
        _become(out / "results.jsonl", became)
        # One that is wrong, so that `run` recovers all and sends nothing.
        (folder / "jobs.jsonl").write_bytes(b'{"id": "n0", "prompt": "Number n0"}\n')
        (folder / "wrong.jsonl").write_bytes(b"{}\n")
        for ended, codes in _all_that_read(folder, out):
            assert ended.is_clean, (results, ended)
            assert ended.code in codes, (results, ended)
        if _would_send(folder / "jobs.jsonl", out):
            known = {row["id"] for row in read_rows(out)}
            assert "n0" in known, results


def _become(path: Path, kind: str) -> None:
    """Make the file of rows what others may make of it."""
    rows = path.read_bytes()
    if kind:
        path.unlink()
    match kind:
        case "gz":
            path.write_bytes(gzip.compress(rows))
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "link":
            path.with_name("kept").write_bytes(rows)
            path.symlink_to("kept")


def _would_send(manifest: Path, out: Path) -> int:
    """Return how many calls a run would send, without a flag and without asking."""
    ledger = SharedLedger(MemoryStorage(), CONFIG.limits)
    try:
        with setup.open_run(manifest, out, CONFIG, lambda _event: None, ledger) as run:
            return run.planned.plan.to_send
    except StorageError:
        return 0


def _all_that_read(folder: Path, out: Path) -> Iterator[tuple[Ended, set[int]]]:
    codes = {0, 8} if (out / "results.jsonl").exists() else {3}
    yield command("status", str(out)), codes
    yield command("verify", str(out)), codes | {4}
    yield command("plan", str(folder / "jobs.jsonl"), "--retry", "missing"), {0, 8}
    yield command("run", str(folder / "wrong.jsonl"), "--out", str(out)), {3, 8}
    yield command("status", str(out)), codes
