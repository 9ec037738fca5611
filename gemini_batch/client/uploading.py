"""A resumable upload: one session of the server, chunk by chunk, continued after each break.

The protocol is Google's, as google-genai 3.6.1 has it (`_api_client.py`, 2026-11-18), with the
`query` of the same protocol in other Google APIs. The URL of a session lets anyone write to it: it
is a secret, which is shown nowhere and outlives nothing.
"""

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from yarl import URL

from gemini_batch.client import request_json
from gemini_batch.client.batch_json import remote_file
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.client.request_json import Segment
from gemini_batch.client.rest import RestAnswer, RestSession, parsed
from gemini_batch.client.segments import Chunk, SegmentReader
from gemini_batch.client.untrusted_json import as_dict
from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import RemoteFile

# `text/plain` is accepted; for months, `jsonl` and `application/jsonl` were not
# (googleapis/python-genai#1547, #1590, collected 2026-11-30).
MIME_TYPE = "text/plain"
# Captured by two projects in 2026; the SDK always sends this much.
GRANULARITY_BYTES = 8 << 20
CHUNK_BYTES = 4 * GRANULARITY_BYTES
# Tries without any progress, and the pause before the second; each further one is twice as long.
TRIES = 6
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
# Sessions that the server may lose before the upload is given up.
SESSIONS = 3

_TRANSIENT = frozenset({408, 500, 502, 503, 504})
_TRANSIENT_KINDS = frozenset(
    {FailureKind.TIMEOUT, FailureKind.DISCONNECTED, FailureKind.UNREACHABLE}
)
# After these the server is asked how much arrived: the offset may be another one.
_REFUSED = 400
_UNSURE = frozenset({_REFUSED, 404, 409, 410, 412, 416})
_MAX_DIGITS = 18
_Value: TypeAlias = dict[str, Any] | ApiError | Failure


@dataclass(frozen=True, slots=True)
class _Session:
    """An upload that the server has begun.

    Attributes:
        redactor: Finds what is secret in the URL.
    """

    url: URL = field(repr=False)
    chunk_bytes: int
    redactor: KeyRedactor = field(repr=False)


class _Lost(Enum):
    """The server no longer has the session, or can't say how much arrived."""

    LOST = "LOST"


class ResumableUpload:
    """One file on its way to the server."""

    def __init__(
        self,
        session: RestSession,
        display_name: str,
        size_bytes: int,
        segments: Callable[[], Iterable[Segment]],
    ) -> None:
        self._session = session
        self._display_name = display_name
        self._size_bytes = size_bytes
        self._reader = SegmentReader(segments)

    async def run(self) -> RemoteFile | ApiError | Failure:
        """Upload the file; see `Files.upload`."""
        for _ in range(SESSIONS):
            begun = await self._begin()
            if not isinstance(begun, _Session):
                return begun
            ended = await self._send(begun)
            if ended is not _Lost.LOST:
                return ended
        message = f"{self._session.base_url} lost the upload {SESSIONS} times; run again later"
        return Failure(FailureKind.DISCONNECTED, message, may_be_billed=False)

    async def _begin(self) -> _Session | ApiError | Failure:
        url = request_json.upload_url(self._session.base_url)
        file = {
            "displayName": self._display_name,
            "mimeType": MIME_TYPE,
            "sizeBytes": str(self._size_bytes),
        }
        headers = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(self._size_bytes),
            "X-Goog-Upload-Header-Content-Type": MIME_TYPE,
        }
        for number in range(TRIES):
            answer = await self._session.request("POST", url, {"file": file}, headers)
            value = parsed(answer)
            if isinstance(answer, RestAnswer) and isinstance(value, dict):
                return self._begun(answer)
            if isinstance(value, dict) or not _is_transient(value) or number + 1 == TRIES:
                break
            await _pause(number, value)
        return self._no_end() if isinstance(value, dict) else value

    def _begun(self, answer: RestAnswer) -> _Session | Failure:
        """Return the session; its URL is one of this server, like all that bytes are sent to."""
        try:
            found = URL(answer.headers.get("X-Goog-Upload-URL", ""), encoded=True)
            base = URL(self._session.base_url)
            url = base.join(found).with_scheme(base.scheme).with_host(base.host or "")
            url = url.with_port(base.port) if found.raw_path_qs.strip("/") else URL()
        except ValueError:
            url = URL()
        if not url.host:
            message = f"{self._session.base_url} begins an upload without a valid X-Goog-Upload-URL"
            return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)
        granularity = _number(answer.headers.get("X-Goog-Upload-Chunk-Granularity"))
        unit = granularity or GRANULARITY_BYTES
        chunk_bytes = max(1, CHUNK_BYTES // unit) * unit
        secret = url.query.get("upload_id") or url.raw_path_qs
        return _Session(url, chunk_bytes, KeyRedactor(secret))

    async def _send(self, upload: _Session) -> RemoteFile | ApiError | Failure | _Lost:
        offset, tries = 0, 0
        while True:
            stop = min(offset + upload.chunk_bytes, self._size_bytes)
            answer = await self._send_chunk(upload, offset, stop)
            value = parsed(answer)
            if stop < self._size_bytes and isinstance(value, dict) and _status(answer) == "active":
                offset, tries = stop, 0
                continue
            tries += 1
            ended = self._ended(answer, value, is_last_try=tries == TRIES)
            if ended is not None:
                return ended
            await _pause(tries - 1, value)
            found = await self._found(upload, offset, value)
            if not isinstance(found, int):
                return found
            offset, tries = found, 0 if found > offset else tries

    def _ended(
        self, answer: RestAnswer | Failure, value: _Value, *, is_last_try: bool
    ) -> RemoteFile | ApiError | Failure | None:
        """Return the end of the upload; None if the server has to be asked how much arrived."""
        if _status(answer) == "final" or (isinstance(value, dict) and "file" in value):
            return self._file(value)
        if isinstance(value, dict):
            return self._no_end() if is_last_try else None
        may_go_on = _is_transient(value) or _status_code(value) in _UNSURE
        return None if may_go_on and not is_last_try else value

    async def _found(
        self, upload: _Session, offset: int, value: _Value
    ) -> int | RemoteFile | ApiError | Failure | _Lost:
        """Return how much the server has after a chunk that it did not accept."""
        received = await self._query(upload)
        if isinstance(received, ApiError | Failure) and _is_transient(received):
            return offset
        stands_as_before = received == offset or received is _Lost.LOST
        if stands_as_before and isinstance(value, ApiError) and _status_code(value) == _REFUSED:
            return value  # it refuses the chunk, and not its place
        return received

    async def _send_chunk(self, upload: _Session, start: int, stop: int) -> RestAnswer | Failure:
        is_last = stop == self._size_bytes
        headers = {
            "X-Goog-Upload-Command": "upload, finalize" if is_last else "upload",
            "X-Goog-Upload-Offset": str(start),
        }
        return await self._post(upload, Chunk(self._reader, start, stop - start), headers)

    async def _query(self, upload: _Session) -> int | RemoteFile | ApiError | Failure | _Lost:
        """Return how much the server has, or the file if it has all."""
        answer = await self._post(upload, None, {"X-Goog-Upload-Command": "query"})
        value = parsed(answer)
        if not isinstance(value, dict):
            return _Lost.LOST if _status_code(value) in _UNSURE else value
        if _status(answer) == "final":
            file = remote_file(as_dict(value.get("file")))
            # Without its name, the file can't be used.
            return file if file is not None else _Lost.LOST
        received = None
        if isinstance(answer, RestAnswer) and _status(answer) == "active":
            received = _number(answer.headers.get("X-Goog-Upload-Size-Received"), least=0)
        return _Lost.LOST if received is None or received > self._size_bytes else received

    async def _post(
        self, upload: _Session, chunk: Chunk | None, headers: dict[str, str]
    ) -> RestAnswer | Failure:
        """Send a request to the session's URL, which asks for no key."""
        answer = await self._session.send("POST", upload.url, chunk, headers, has_key=False)
        if isinstance(answer, Failure):
            return replace(answer, message=upload.redactor.redact_text(answer.message))
        body = upload.redactor.redact(answer.answer.body)
        return replace(answer, answer=replace(answer.answer, body=body))

    def _file(self, value: _Value) -> RemoteFile | ApiError | Failure:
        """Return the file of the last answer, if it is whole."""
        if not isinstance(value, dict):
            return value
        file = remote_file(as_dict(value.get("file")))
        if file is None:
            return self._no_end()
        if file.size_bytes not in (None, self._size_bytes):
            message = (
                f"the server has {file.size_bytes:,} bytes of the uploaded file, and "
                f"{self._size_bytes:,} were sent"
            )
            return Failure(FailureKind.MALFORMED, message, may_be_billed=False)
        return file

    def _no_end(self) -> Failure:
        message = f"{self._session.base_url} ends an upload without naming the file"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)


def _status(answer: RestAnswer | Failure) -> str:
    """Return the state of the upload: `active`, `final`, `cancelled`, or "" if it is unknown."""
    if isinstance(answer, Failure):
        return ""
    return answer.headers.get("X-Goog-Upload-Status", "").strip().lower()


def _is_transient(error: ApiError | Failure) -> bool:
    if isinstance(error, Failure):
        return error.kind in _TRANSIENT_KINDS
    return error.http_status in _TRANSIENT


def _status_code(error: ApiError | Failure) -> int | None:
    return error.http_status if isinstance(error, ApiError) else None


async def _pause(number: int, error: object) -> None:
    """Wait before a try, as long as the server asks for within reason."""
    asked_s = error.retry_delay_s if isinstance(error, ApiError) else None
    await asyncio.sleep(min(MAX_PAUSE_S, max(FIRST_PAUSE_S * 2**number, asked_s or 0.0)))


def _number(text: str | None, least: int = 1) -> int | None:
    """Return a whole number of a header; None for anything else, and below `least`."""
    if text is None or not re.fullmatch(rf"[0-9]{{1,{_MAX_DIGITS}}}", text.strip()):
        return None
    return found if (found := int(text)) >= least else None
