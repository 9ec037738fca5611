"""The batch client against the simulator: a file of requests goes in, its lines come out, under every fault."""

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.client import files as client_files
from gemini_batch.client import request_json, results, uploading
from gemini_batch.client.batches import Batches
from gemini_batch.client.files import Files
from gemini_batch.client.request_json import Segment
from gemini_batch.client.results import Results
from gemini_batch.records import ApiError, Reply, Request, Text
from gemini_batch.records.remote_batch import (
    BatchState,
    Created,
    Refused,
    RemoteBatch,
    RemoteFile,
    Unknown,
)
from gemini_batch.simulator import Simulator, SimulatorConfig
from tests.unit.client.result_file import Sink
from tests.wire.peers import KEY, patient
from tests.wire.rest_peers import session

MODEL = "gemini-3-pro-image-preview"
KEYS = [f"{number}.ab" for number in range(6)]
pytestmark = [pytest.mark.loopback, pytest.mark.slow]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries follow at once."""
    monkeypatch.setattr(uploading, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(results, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr(client_files, "PROCESSING_PAUSE_S", 1e-3)


def segments() -> Iterator[Segment]:
    """Yield the lines of the input file."""
    for number, key in enumerate(KEYS):
        yield from request_json.line(key, Request(MODEL, (Text(f"A robot {number}"),)))


SIZE_BYTES = sum(request_json.content_length((each,)) for each in segments())


class Client:
    """Files and batches of a simulator."""

    def __init__(self, server: Simulator, files: Files, batches: Batches) -> None:
        self.server, self.files, self.batches = server, files, batches

    async def upload(self) -> RemoteFile:
        """Upload the requests."""
        file = await self.files.upload("gemini_batch 1", SIZE_BYTES, segments)
        assert isinstance(file, RemoteFile), file
        return file

    async def create(self) -> RemoteBatch:
        """Upload the requests and create the batch."""
        outcome = await self.batches.create(MODEL, "gemini_batch 1", (await self.upload()).name)
        assert isinstance(outcome, Created), outcome
        return outcome.batch

    async def read(self, batch: RemoteBatch) -> tuple[list[Any], Results[Sink]]:
        """Read the results of a batch."""
        reader = Results(self.files, batch.output_file, Sink)
        return [each async for each in reader.lines()], reader

    async def get(self, batch: RemoteBatch) -> RemoteBatch:
        """Ask for a batch."""
        found = await self.batches.get(batch.name)
        assert isinstance(found, RemoteBatch), found
        return found


def rules(faults: str) -> str:
    """Return a file of faults: `a x2,b@text` is `a` for the first two, and `b` where `text` is."""
    found = ""
    for each in filter(None, faults.split(",")):
        name, _, match = each.partition("@")
        name, _, times = name.partition(" x")
        found += f'[[rules]]\nfault = "{name}"\nmatch = "{match}"\n'
        found += f"times = {times}\n" if times else ""
    return found


@asynccontextmanager
async def simulated(faults: str = "", **settings: Any) -> AsyncIterator[Client]:
    """Run a simulator, and open files and batches of it."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(rules(faults))
        file.flush()
        path = Path(file.name) if faults else None
        config = SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0, faults=path)
        simulator = Simulator(config)  # reads the file
    async with (
        simulator as server,
        session(server.base_url, **settings) as opened,
        Files(opened) as files,
    ):
        yield Client(server, files, Batches(opened))


async def test_a_batch_from_its_requests_to_its_lines() -> None:
    """Upload, create, get, list, download and delete speak the simulator's protocol, which Google's SDK speaks too."""
    async with simulated() as client:
        assert await client.batches.supports(MODEL) is True
        file = await client.upload()
        assert await client.files.get(file.name) == file
        created = await client.create()
        assert (created.model, created.display_name) == (MODEL, "gemini_batch 1")
        batch = await client.get(created)
        assert batch.state is BatchState.SUCCEEDED
        assert batch.output_file.startswith("files/batch-")
        listing = await client.batches.listing(datetime.now(UTC) - timedelta(hours=1))
        assert (listing.batches, listing.is_complete) == ((batch,), True)
        lines, reader = await client.read(batch)
        assert ([each.key for each in lines], reader.failure) == (KEYS, None)
        for each in lines:
            assert isinstance(each.outcome, Reply)
            assert each.outcome.image is not None
        assert await client.batches.cancel(batch.name) is None
        assert await client.batches.delete(batch.name) is None
        assert await client.files.delete(created.input_file) is None
        miss = await client.batches.get(batch.name)
        assert isinstance(miss, ApiError)
        assert (await client.batches.listing()).batches == ()


@pytest.mark.parametrize(
    "fault",
    [
        "upload-503 x2",
        "upload-cut x2",
        "upload-lost x2",
        "upload-silent x2",
        "upload-chunk-503 x2",
        "upload-gone x1",
        "upload-final-lost x1",
    ],
)
async def test_an_upload_gets_through(fault: str) -> None:
    """Whatever happens to an upload on its way, the file is whole in the end."""
    async with simulated(fault) as client:
        batch = await client.get(await client.create())
        lines, _ = await client.read(batch)
    assert [each.key for each in lines] == KEYS


async def test_a_file_of_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are multiples of what the server asks for, and are continued after a break."""
    monkeypatch.setattr(uploading, "CHUNK_BYTES", 8 << 20)
    size_bytes = 20 << 20
    async with simulated("upload-cut x2") as client:
        file = await client.files.upload("x", size_bytes, lambda: [b"x" * (1 << 20)] * 20)
    assert isinstance(file, RemoteFile)
    assert file.size_bytes == size_bytes


@pytest.mark.parametrize(("fault", "status"), [("upload-full", 429), ("upload-mime", 400)])
async def test_an_upload_that_is_refused(fault: str, status: int) -> None:
    """A full project, and a type that is not taken, are errors of the API."""
    async with simulated(fault) as client:
        refusal = await client.files.upload("x", SIZE_BYTES, segments)
    assert isinstance(refusal, ApiError)
    assert refusal.http_status == status


@pytest.mark.parametrize(
    ("fault", "kind", "number"),
    [
        ("create-400", Refused, 0),
        ("create-429", Refused, 0),
        ("create-429-zero", Refused, 0),
        ("create-503", Unknown, 0),
        ("create-503-after", Unknown, 1),
        ("create-reset-after", Unknown, 1),
    ],
)
async def test_a_create_is_sent_once(fault: str, kind: type, number: int) -> None:
    """What the server did shows in its list alone; there is never a second batch."""
    async with simulated(fault) as client:
        file = await client.upload()
        outcome = await client.batches.create(MODEL, "gemini_batch 1", file.name)
        assert isinstance(outcome, kind)
        listing = await client.batches.listing()
        assert len(listing.batches) == number
        assert all(each.input_file == file.name for each in listing.batches)


async def test_a_model_without_batches_is_known_before() -> None:
    """`models.get` says so, and so does the create."""
    async with simulated("no-batch") as client:
        assert await client.batches.supports(MODEL) is False
        outcome = await client.batches.create(MODEL, "x", (await client.upload()).name)
        assert isinstance(outcome, Refused)


@pytest.mark.parametrize(
    ("fault", "state", "lines"),
    [
        ("job-states", BatchState.SUCCEEDED, 6),
        ("top-level", BatchState.SUCCEEDED, 6),
        ("no-stats", BatchState.SUCCEEDED, 6),
        ("shuffled", BatchState.SUCCEEDED, 6),
        ("op-error", BatchState.FAILED, 0),
        ("failed", BatchState.FAILED, 0),
        ("failed-partial", BatchState.FAILED, 3),
        ("expired", BatchState.EXPIRED, 0),
        ("expired-partial", BatchState.EXPIRED, 3),
        ("no-output", BatchState.SUCCEEDED, 0),
        ("stuck", BatchState.PENDING, 0),
    ],
)
async def test_a_batch_in_any_form(fault: str, state: BatchState, lines: int) -> None:
    """States, files and stats are read from what the server sends; a file is read in any state."""
    async with simulated(fault) as client:
        batch = await client.get(await client.create())
        assert batch.state is state
        assert bool(batch.output_file) == bool(lines)
        assert (batch.stats.requests is None) == (fault == "no-stats")
        if lines:
            found, reader = await client.read(batch)
            assert (len(found), reader.failure) == (lines, None)


@pytest.mark.parametrize(
    ("fault", "keys"),
    [
        ("download-cut x2", KEYS),
        ("download-short x2", None),
        ("no-length", KEYS),
        ("no-range,download-cut x1", None),
        ("bad-range,download-cut x1", None),
        ("lying-range x1,download-cut x1", None),
        ("download-503 x2", KEYS),
        ("download-stall x1", KEYS),
        ("corrupt-output,no-range,download-cut x1", None),
    ],
)
async def test_every_line_is_downloaded(fault: str, keys: list[str] | None) -> None:
    """Each line comes, whole; where the server can't continue, some come again."""
    timeouts = patient(between_bytes_s=0.2) if "stall" in fault else patient()
    async with simulated(fault, timeouts=timeouts) as client:
        lines, reader = await client.read(await client.get(await client.create()))
    whole = [each for each in lines if not each.is_torn and isinstance(each.outcome, Reply)]
    found = [each.key for each in whole]
    assert (set(found), reader.failure) == ({*KEYS}, None)
    assert keys is None or found == keys
    for each in whole:
        assert each.outcome.image.file.encode("latin-1") == each.sink.images[-1].getvalue()


@pytest.mark.parametrize("fault", ["download-404", "get-404", "get-429", "get-503"])
async def test_a_server_that_says_no_is_believed_once(fault: str) -> None:
    """An error is the outcome of one look, and of no more."""
    async with simulated(f"{fault} x1") as client:
        created = await client.create()
        if fault == "download-404":
            batch = await client.get(created)
            lines, reader = await client.read(batch)
            assert lines == []
            assert isinstance(reader.failure, ApiError)
            assert len((await client.read(batch))[0]) == 6
        else:
            assert isinstance(await client.batches.get(created.name), ApiError)
            await client.get(created)


async def test_the_key_is_not_redirected() -> None:
    """Another host may send the results, and gets no key; a page is no result file."""
    async with simulated("download-redirect") as client:
        _, reader = await client.read(await client.get(await client.create()))
        assert client.server.audit.followed_redirects >= 1
    assert reader.failure is not None
    assert "may carry the key" in reader.failure.message


@pytest.mark.parametrize("fault", ["list-429", "list-503"])
async def test_a_list_that_fails_is_not_complete(fault: str) -> None:
    """What is not in it may be there all the same."""
    async with simulated(f"{fault} x1") as client:
        await client.create()
        failed = await client.batches.listing()
        assert (failed.is_complete, failed.batches) == (False, ())
        assert isinstance(failed.error, ApiError)
        assert (await client.batches.listing()).is_complete


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("lost-key", {}),
        ("duplicate-key", {"0.ab": 2}),
        ("unknown-key", None),
        ("no-key", {None: 1}),
        ("torn-line", None),
        ("line-status", {"0.ab": 1}),
    ],
)
async def test_odd_lines(fault: str, expected: dict[str | None, int] | None) -> None:
    """An odd line is reported as it is, and costs no other line."""
    async with simulated(f"{fault}@A robot 0") as client:
        lines, _ = await client.read(await client.get(await client.create()))
    found = Counter(each.key for each in lines)
    others = Counter(key for key in KEYS[1:])
    assert {key: found[key] for key in others} == others
    if expected is not None:
        assert found - others == Counter(expected)


async def test_the_key_and_the_upload_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither is in a log or an outcome."""
    async with simulated("upload-cut x1,create-503-after x1,download-cut x1") as client:
        file = await client.upload()
        outcome = await client.batches.create(MODEL, "x", file.name)
        batch = (await client.batches.listing()).batches[0]
        lines, reader = await client.read(batch)
    shown = repr((file, outcome, batch, lines, reader.failure)) + caplog.text
    assert KEY not in shown
    assert "upload_id" not in shown
