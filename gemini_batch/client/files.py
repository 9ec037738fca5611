"""The Files API: resumable upload, get, delete, and download as a stream.

https://ai.google.dev/api/files (2026-11-30).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
from yarl import URL

from gemini_batch.client import request_json
from gemini_batch.client.api_error import parse_error
from gemini_batch.client.batch_json import remote_file
from gemini_batch.client.downloading import Download, begins_at
from gemini_batch.client.public_hosts import PublicHosts, refuses_address
from gemini_batch.client.request_json import Segment
from gemini_batch.client.rest import RestSession, parsed
from gemini_batch.client.session import key_headers, with_key
from gemini_batch.client.timeouts import StallTimeout
from gemini_batch.client.uploading import ResumableUpload
from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import RemoteFile

MAX_REDIRECTS = 5
# A text file was usable at once in all captures (collected 2026-11-30).
PROCESSING_S = 300.0
PROCESSING_PAUSE_S = 5.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_S = 10.0


class _RedirectError(Exception):
    """A redirect that is not followed."""


class Files:
    """Files of one server, over the connections of a `RestSession`.

    Use it as an async context manager, within that of its session.
    """

    def __init__(self, session: RestSession) -> None:
        self._session = session
        timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S)
        self._hosts = PublicHosts(session.base_url, timeout, session.config.certificates)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._hosts.close()

    async def upload(
        self, display_name: str, size_bytes: int, segments: Callable[[], Iterable[Segment]]
    ) -> RemoteFile | ApiError | Failure:
        """Upload a file of `size_bytes`; memory is one block of it.

        `segments` returns the pieces of the file from its start each time that it is called, which
        is once, and once more after each break: what the server has already is skipped.
        A break is continued where the server says; an upload costs nothing. A file that the server
        still processes can't be used: it is waited for, up to `PROCESSING_S`.

        Cancellation: safe; the server drops what it has.
        """
        upload = ResumableUpload(self._session, display_name, size_bytes, segments)
        file = await upload.run()
        waited_s = 0.0
        while isinstance(file, RemoteFile) and file.state == "PROCESSING":
            if waited_s >= PROCESSING_S:
                message = f"the server still processes the uploaded file {file.name}"
                return Failure(FailureKind.TIMEOUT, message, may_be_billed=False)
            await asyncio.sleep(PROCESSING_PAUSE_S)
            waited_s += PROCESSING_PAUSE_S
            file = await self.get(file.name)
        return file

    def redact(self, body: bytes) -> bytes:
        """Return a body without the API key."""
        return self._session.redactor.redact(body)

    async def get(self, name: str) -> RemoteFile | ApiError | Failure:
        """Return an uploaded file by its name, `files/…`; results of a batch can't be asked for.

        Cancellation: safe.
        """
        value = parsed(await self._session.request("GET", self._url(name)))
        if isinstance(value, ApiError | Failure):
            return value
        message = f"{self._session.base_url} answers with a file that has no name"
        no_name = Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)
        return remote_file(value) or no_name

    async def delete(self, name: str) -> ApiError | Failure | None:
        """Delete a file; None if it is deleted, or was not there.

        Cancellation: the request may have arrived.
        """
        found = await self._session.delete(self._url(name))
        # A file that is gone is a 403 (collected 2026-11-22): "You do not have permission to access
        # the File x or it may not exist."
        is_gone = isinstance(found, ApiError) and "may not exist" in found.message
        return None if is_gone else found

    @asynccontextmanager
    async def download(
        self, name: str, start_bytes: int = 0, etag: str = ""
    ) -> AsyncIterator[Download | ApiError | Failure]:
        """Begin to download a file, from a byte on if the server can and the file has this `etag`.

        Redirects are followed without the key to other hosts, which must be public.

        Cancellation: safe.
        """
        found: Download | ApiError | Failure
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._opened(name, start_bytes, etag)
            if response.status in {200, 206}:
                start_bytes = start_bytes if response.status == 206 else 0
                between_s = self._session.config.timeouts.between_bytes_s
                found = Download(response, start_bytes, between_s, self._failure)
            else:
                found = parse_error(await self._session.read(response))
        except (aiohttp.ClientError, OSError, _RedirectError) as error:
            found = self._failure(error)
        try:
            yield found
        finally:
            if response is not None:
                response.close()

    async def _opened(self, name: str, start_bytes: int, etag: str) -> aiohttp.ClientResponse:
        """Return the answer, of the whole file if the server can't begin at a byte."""
        headers = {"Range": f"bytes={start_bytes}-"} if start_bytes else {}
        headers |= {"If-Range": etag} if start_bytes and etag else {}
        async with StallTimeout(self._session.config.timeouts.whole_s):
            response = await self._follow(name, headers)
            is_useless = response.status == 206 and not begins_at(response, start_bytes)
            if start_bytes and (is_useless or response.status == 416):
                response.close()
                response = await self._follow(name, {})
        return response

    async def _follow(self, name: str, headers: dict[str, str]) -> aiohttp.ClientResponse:
        base = URL(self._session.base_url)
        url = URL(f"{self._url(name)}:download?alt=media", encoded=True)
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._get(url, headers, is_own=_origin(url) == _origin(base))
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.close()
            try:
                url = response.url.join(URL(location, encoded=True)).with_fragment(None)
                is_followed = _origin(url) == _origin(base) or self._hosts.allows(url)
            except ValueError:  # of the host as well, which is decoded when it is asked for
                is_followed = False
            if not is_followed:
                raise _RedirectError("only https:// addresses are followed")
        raise _RedirectError(f"more than {MAX_REDIRECTS} redirects")

    async def _get(
        self, url: URL, headers: dict[str, str], *, is_own: bool
    ) -> aiohttp.ClientResponse:
        if not is_own:
            return await self._hosts.get(url, headers)
        config = self._session.config
        headers = key_headers(config) | headers
        return await self._session.http.get(
            with_key(str(url), config), headers=headers, allow_redirects=False
        )

    def _failure(self, error: Exception) -> Failure:
        """Return why a download did not begin, or broke; a URL may be signed, and is not shown."""
        if isinstance(error, _RedirectError):
            message = f"the download of the results is redirected, and not followed: {error}"
            return Failure(FailureKind.MALFORMED, message, may_be_billed=False)
        if refuses_address(error):
            message = "the download of the results leads to an address that is not public"
            return Failure(FailureKind.MALFORMED, message, may_be_billed=False)
        return self._session.failure(error)

    def _url(self, name: str) -> str:
        return request_json.resource_url(self._session.base_url, name)


def _origin(url: URL) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port; any URL has them, and an invalid one has none of a server."""
    return url.scheme, url.host, url.port
