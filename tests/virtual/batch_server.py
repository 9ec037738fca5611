"""A Files and Batch API in memory, for scenarios on a virtual clock: what it bills, and how it fails."""

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import orjson
import pybase64

from gemini_batch.client.downloading import Download
from gemini_batch.client.request_json import Segment
from gemini_batch.client.upload import base64_blocks
from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import (
    BatchState,
    BatchStats,
    Created,
    CreateOutcome,
    Listing,
    Refused,
    RemoteBatch,
    RemoteFile,
    Unknown,
)
from tests.builders import png

TURNAROUND = timedelta(hours=1)
LOST = Failure(FailureKind.DISCONNECTED, "the connection broke", may_be_billed=True)


class Killed(BaseException):  # nobody is to handle it
    """The process is gone."""


@dataclass
class Batch:
    """A batch of the server."""

    name: str
    model: str
    display_name: str
    input_file: str
    lines: list[dict[str, Any]]
    created_at: datetime
    project: str
    end_state: BatchState = BatchState.SUCCEEDED
    takes: timedelta = TURNAROUND
    is_cancelled: bool = False
    is_answered: bool = True  # it has results, whatever its state


@dataclass
class BatchServer:
    """The server's state; a copy of it is what it would be if a client had died at that moment.

    Attributes:
        spoil: Changes the lines of a result file, by the batch's number.
        deny: An outcome of a create, in the place of the batch, one per create; None creates it.
        hides: The next creates are carried out and not answered.
        hidden: The next looks at the list do not show batches.
        misses: So many gets answer 404.
        cuts: Lengths after which the next downloads break.
        has_ranges: Downloads continue where they are asked to.
        methods: Of each model.
        silent: A request that is not answered any more, `get` or `download` after half of the bytes.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    project: str = "mine"
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Batch] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    spoil: Callable[[int, list[bytes]], list[bytes]] = lambda _number, lines: lines
    deny: list[ApiError | Failure | None] = field(default_factory=list)
    hides: int = 0
    drops: int = 0
    hidden: int = 0
    misses: int = 0
    cuts: list[int] = field(default_factory=list)
    has_ranges: bool = True
    supports: bool | ApiError | Failure = True
    gone: set[str] = field(default_factory=set)
    takes: timedelta = TURNAROUND
    end_state: BatchState = BatchState.SUCCEEDED
    is_answered: bool = True
    silent: str = ""
    before: Callable[[str], None] = lambda _what: None

    def fork(self) -> "BatchServer":
        """Return a copy."""
        same = replace(self, before=lambda _what: None)
        for name in ("files", "batches", "requests", "deny", "cuts"):
            setattr(same, name, copy.deepcopy(getattr(self, name)))
        return same

    @property
    def submitted(self) -> int:
        """The number of lines of all batches."""
        return sum(len(batch.lines) for batch in self.batches.values())

    def billed(self) -> Counter[str]:
        """Return how often the prompt of each call is paid for."""
        return Counter(
            line["request"]["contents"][0]["parts"][0]["text"]
            for batch in self.batches.values()
            if self.state(batch).is_terminal and batch.is_answered
            for line in batch.lines
        )

    async def answer(self, what: str) -> None:
        """Return at once, or never."""
        if self.silent == what:
            await asyncio.Event().wait()

    def state(self, batch: Batch) -> BatchState:
        """Return the state now."""
        if self.now() - batch.created_at >= batch.takes:
            return BatchState.CANCELLED if batch.is_cancelled else batch.end_state
        return BatchState.RUNNING

    def described(self, batch: Batch) -> RemoteBatch:
        """Return the batch as an answer has it."""
        state = self.state(batch)
        is_over, number = state.is_terminal, len(batch.lines)
        has_file = is_over and batch.is_answered
        return RemoteBatch(
            name=batch.name,
            state=state,
            model=batch.model,
            display_name=batch.display_name,
            input_file=batch.input_file,
            output_file=f"files/batch-{batch.name.partition('/')[2]}" if has_file else "",
            stats=BatchStats(number, number if is_over else 0, 0, 0 if is_over else number),
            created_at=batch.created_at,
            ended_at=batch.created_at + batch.takes if is_over else None,
        )

    def results(self, name: str) -> bytes:
        """Return the result file of a batch."""
        number, batch = next(
            (number, each)
            for number, each in enumerate(self.batches.values())
            if name.endswith(each.name.partition("/")[2])
        )
        return b"".join(self.spoil(number, [answer_line(line) for line in batch.lines]))


def answer_line(line: dict[str, Any]) -> bytes:
    """Return the line of a result, with the image that the prompt asks for; its key comes last."""
    prompt = line["request"]["contents"][0]["parts"][0]["text"]
    data = pybase64.b64encode(png(prompt)).decode()
    part = {"inlineData": {"mimeType": "image/png", "data": data}}
    usage = {
        "promptTokenCount": 10,
        "candidatesTokenCount": 1120,
        "totalTokenCount": 1130,
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1120}],
    }
    candidate = {"content": {"parts": [part]}, "finishReason": "STOP"}
    response = {"candidates": [candidate], "usageMetadata": usage}
    return orjson.dumps({"response": response, "key": line["key"]}) + b"\n"


def error_line(
    line: bytes, code: int = 13, message: str = "An internal error has occurred."
) -> bytes:
    """Return the line of an error in the place of a result."""
    key = orjson.loads(line)["key"]
    return orjson.dumps({"key": key, "error": {"code": code, "message": message}}) + b"\n"


def not_found() -> ApiError:
    """Return the error for a name that is not there."""
    return ApiError(404, "NOT_FOUND", None, "Requested entity was not found: batches/…")


class FakeDownload(Download):
    """A download of bytes in memory."""

    def __init__(self, server: BatchServer, data: bytes, start_bytes: int, cut: int | None) -> None:
        self._server = server
        self.start_bytes = start_bytes
        self.total_bytes = len(data)
        self.failure = None
        self.etag = ""
        self.can_continue = True
        self._data = data[start_bytes:] if cut is None else data[start_bytes:cut]
        self._is_cut = cut is not None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes in two pieces."""
        half = len(self._data) // 2
        for chunk in (self._data[:half], self._data[half:]):
            if chunk:
                yield chunk
            await self._server.answer("download")
        if self._is_cut:
            self.failure = replace(LOST, may_be_billed=False)


class FakeSession:
    """Stands for `RestSession`."""

    def __init__(self, server: BatchServer) -> None:
        self.server = server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass


class FakeFiles:
    """Stands for `Files`."""

    def __init__(self, session: FakeSession) -> None:
        self._server = session.server

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        pass

    def redact(self, body: bytes) -> bytes:
        """Return it as it is."""
        return body

    async def upload(
        self, display_name: str, size_bytes: int, segments: Callable[[], Iterable[Segment]]
    ) -> RemoteFile | ApiError | Failure:
        """Take a file; it has as many bytes as was said."""
        pieces: list[bytes] = []
        for number, segment in enumerate(segments()):
            if number in {0, 2}:
                self._call(f"upload chunk {number}")
            pieces += [segment] if isinstance(segment, bytes) else base64_blocks(segment)
        data = b"".join(pieces)
        assert len(data) == size_bytes
        name = f"files/{len(self._server.requests):04}"
        self._server.files[name] = data
        self._call("upload answered")
        return RemoteFile(name, "ACTIVE", size_bytes)

    async def delete(self, name: str) -> ApiError | Failure | None:
        """Delete a file."""
        self._call("delete file")
        self._server.files.pop(name, None)
        self._call("delete file answered")
        return None

    @asynccontextmanager
    async def download(
        self, name: str, start_bytes: int = 0, etag: str = ""
    ) -> AsyncIterator[Download | ApiError | Failure]:
        """Begin a download."""
        self._call("download")
        data, cuts = self._server.results(name), self._server.cuts
        start_bytes = start_bytes if self._server.has_ranges else 0
        yield FakeDownload(self._server, data, start_bytes, cuts.pop(0) if cuts else None)

    def _call(self, what: str) -> None:
        self._server.before(what)
        self._server.requests.append(what)


class FakeBatches:
    """Stands for `Batches`."""

    def __init__(self, session: FakeSession) -> None:
        self._server = session.server

    async def supports(self, model: str) -> bool | ApiError | Failure:
        """Say if there is a Batch API."""
        if model in self._server.gone:
            return ApiError(404, "NOT_FOUND", None, f"models/{model} is not found")
        return self._server.supports

    async def create(self, model: str, display_name: str, input_file: str) -> CreateOutcome:
        """Create a batch, or not."""
        server = self._server
        self._call("create")
        if server.deny and (error := server.deny.pop(0)) is not None:
            return Refused(error)
        if server.drops:
            server.drops -= 1
            return Unknown(LOST)
        lines = [orjson.loads(line) for line in server.files[input_file].splitlines()]
        batch = Batch(
            f"batches/{len(server.batches):036}",
            model,
            display_name,
            input_file,
            lines,
            server.now(),
            server.project,
            server.end_state,
            server.takes,
            is_answered=server.is_answered,
        )
        server.batches[batch.name] = batch
        self._call("create answered")
        if server.hides:
            server.hides -= 1
            return Unknown(ApiError(503, "UNAVAILABLE", None, "The service is unavailable."))
        return Created(server.described(batch))

    async def get(self, name: str) -> RemoteBatch | ApiError | Failure:
        """Return a batch."""
        self._call("get")
        server, batch = self._server, self._server.batches.get(name)
        await server.answer("get")
        if batch is None or server.misses or batch.project != server.project:
            server.misses = max(0, server.misses - 1)
            return not_found()
        return server.described(batch)

    async def listing(self, since: datetime | None = None) -> Listing:
        """Return the list."""
        self._call("list")
        server = self._server
        if server.hidden:
            server.hidden -= 1
            return Listing((), is_complete=True)
        found = [
            server.described(each)
            for each in reversed(server.batches.values())
            if each.project == server.project
        ]
        return Listing(tuple(found), is_complete=True)

    async def cancel(self, name: str) -> ApiError | Failure | None:
        """Cancel a batch: it ends in a minute."""
        self._call("cancel")
        batch = self._server.batches[name]
        if not self._server.state(batch).is_terminal:
            batch.is_cancelled = True
            batch.takes = self._server.now() - batch.created_at + timedelta(minutes=1)
        return None

    def _call(self, what: str) -> None:
        self._server.before(what)
        self._server.requests.append(what)
