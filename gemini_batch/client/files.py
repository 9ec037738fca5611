"""The Files API: resumable upload, get, delete, and download as a stream.

https://ai.google.dev/api/files (2026-11-30); the upload protocol as google-genai 3.6.1 has it.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from gemini_batch.client.request_json import Segment
from gemini_batch.client.rest import RestSession
from gemini_batch.records import ApiError, Failure
from gemini_batch.records.remote_batch import RemoteFile


class Download:
    """A file that is being downloaded.

    Attributes:
        start_bytes: Of the first byte that comes: the one asked for, or 0 if the server ignored
            the range.
        total_bytes: Of the whole file; None if the server does not say.
        failure: Why the stream ended before its end; None if it is whole. Look at it after
            `chunks`.
    """

    start_bytes: int
    total_bytes: int | None
    failure: Failure | None

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive, to the end or to a `failure`.

        Cancellation: safe.
        """
        raise NotImplementedError


class Files:
    """Files of one server, over the connections of a `RestSession`."""

    def __init__(self, session: RestSession) -> None:
        raise NotImplementedError

    async def upload(
        self, display_name: str, size_bytes: int, segments: Callable[[], Iterable[Segment]]
    ) -> RemoteFile | ApiError | Failure:
        """Upload a file of `size_bytes`; memory is one block of it.

        `segments` gives the pieces of the file from its start each time that it is called, which
        is once, and once more after each break: what the server has already is skipped.
        A break is continued where the server says; an upload costs nothing.

        Cancellation: safe; the server drops what it has.
        """
        raise NotImplementedError

    async def get(self, name: str) -> RemoteFile | ApiError | Failure:
        """Return an uploaded file by its name, `files/…`; results of a batch can't be asked for.

        Cancellation: safe.
        """
        raise NotImplementedError

    async def delete(self, name: str) -> ApiError | Failure | None:
        """Delete a file; None if it is deleted, or was not there.

        Cancellation: the request may have arrived.
        """
        raise NotImplementedError

    @asynccontextmanager
    async def download(
        self, name: str, start_bytes: int = 0
    ) -> AsyncIterator[Download | ApiError | Failure]:
        """Begin to download a file, from a byte on if the server can.

        Redirects are followed without the key to other hosts, which must be public.

        Cancellation: safe.
        """
        yield Download()
