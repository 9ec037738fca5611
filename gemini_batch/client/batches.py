"""The Batch API: create, get, list, cancel and delete a batch of the requests in a file.

https://ai.google.dev/gemini-api/docs/batch-api (2026-11-30).
"""

from dataclasses import replace
from datetime import datetime
from urllib.parse import quote

from gemini_batch.client import request_json
from gemini_batch.client.batch_json import remote_batch
from gemini_batch.client.rest import RestSession, json_body, parsed
from gemini_batch.client.session import with_key
from gemini_batch.client.untrusted_json import as_list, as_text, field
from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import (
    Created,
    CreateOutcome,
    Listing,
    Refused,
    RemoteBatch,
    Unknown,
)

# Clients in the wild ask for 100 (collected 2026-11-30); a batch has about 1 kB.
PAGE_SIZE = 100
# Ended batches stay in the list for weeks.
MAX_PAGES = 2_000
# Statuses of a server, or of a gateway in front of it, that did not process the request. Others,
# such as 408, 409 and all of 5xx, may come after the batch was created.
_NOT_CREATED = frozenset(
    {400, 401, 402, 403, 404, 405, 407, 411, 413, 414, 415, 422, 429, 431, 501}
)


class Batches:
    """Batches of one server, over the connections of a `RestSession`."""

    def __init__(self, session: RestSession) -> None:
        self._session = session

    async def supports(self, model: str) -> bool | ApiError | Failure:
        """Return whether the server can batch calls of a model, as `models.get` says.

        Cancellation: safe.
        """
        url = request_json.model_url(self._session.base_url, model)
        value = parsed(await self._session.request("GET", url))
        if isinstance(value, ApiError | Failure):
            return value
        return "batchGenerateContent" in as_list(field(value, "supportedGenerationMethods"))

    async def create(self, model: str, display_name: str, input_file: str) -> CreateOutcome:
        """Create a batch of the requests in an uploaded file, `files/…`; send this once.

        A create is not idempotent: sent twice, it makes two batches, and both are paid for. So
        nothing here repeats it, and everything that is not a definite no is `Unknown`.

        Cancellation: `Unknown` as well.
        """
        batch = {"displayName": display_name, "inputConfig": {"fileName": input_file}}
        body = json_body({"batch": batch})
        config, base_url = self._session.config, self._session.base_url
        url = with_key(request_json.batch_url(base_url, model), config)
        value = parsed(await self._session.send("POST", url, body))
        match value:
            case Failure() if body.may_be_whole:
                return Unknown(replace(value, may_be_billed=True))
            case ApiError() if not _is_definite(value):
                return Unknown(value)
            case Failure() | ApiError():
                return Refused(value)
        if found := remote_batch(value):
            return Created(found)
        return Unknown(replace(self._not_a_batch(), may_be_billed=True))

    async def get(self, name: str) -> RemoteBatch | ApiError | Failure:
        """Return a batch by its name, `batches/…`. A 404 is a miss, and no proof that it is gone.

        Cancellation: safe.
        """
        value = parsed(await self._session.request("GET", self._url(name)))
        if isinstance(value, ApiError | Failure):
            return value
        return remote_batch(value) or self._not_a_batch()

    async def listing(self, since: datetime | None = None) -> Listing:
        """Return the batches of the key's project, of all pages.

        With `since` it stops at the page whose batches are all older, as long as the list has
        shown the newest first.

        Cancellation: safe.
        """
        found: list[RemoteBatch] = []
        token, seen = "", {""}
        for _ in range(MAX_PAGES):
            page = await self._page(token)
            if not isinstance(page, tuple):
                return Listing(tuple(found), is_complete=False, error=page)
            batches, token = page
            found += batches
            if not token or (since is not None and _is_past(found, len(batches), since)):
                return Listing(tuple(found), is_complete=True)
            if token in seen:
                break
            seen.add(token)
        message = "the list of batches does not end: its pages repeat"
        error = Failure(FailureKind.MALFORMED, message, may_be_billed=False)
        return Listing(tuple(found), is_complete=False, error=error)

    async def cancel(self, name: str) -> ApiError | Failure | None:
        """Ask for the end of a batch, which still may complete; None once the server accepts.

        Cancellation: the request may have arrived.
        """
        value = parsed(await self._session.request("POST", f"{self._url(name)}:cancel", {}))
        return value if isinstance(value, ApiError | Failure) else None

    async def delete(self, name: str) -> ApiError | Failure | None:
        """Delete a batch that has ended; None if it is deleted, or was not there.

        Never call it for a batch that runs: the documentation contradicts itself on whether that
        stops the work, and its results are gone.

        Cancellation: the request may have arrived.
        """
        return await self._session.delete(self._url(name))

    async def _page(self, token: str) -> tuple[list[RemoteBatch], str] | ApiError | Failure:
        """Return the batches of a page, and the token of the next one, "" after the last."""
        url = f"{self._url('batches')}?pageSize={PAGE_SIZE}"
        url += f"&pageToken={quote(token, safe='')}" if token else ""
        value = parsed(await self._session.request("GET", url))
        if isinstance(value, ApiError | Failure):
            return value
        items = as_list(value.get("operations")) or as_list(value.get("batches"))
        batches = [remote_batch(item) if isinstance(item, dict) else None for item in items]
        if None in batches:
            return self._not_a_batch()
        return [batch for batch in batches if batch], as_text(field(value, "nextPageToken")) or ""

    def _url(self, name: str) -> str:
        return request_json.resource_url(self._session.base_url, name)

    def _not_a_batch(self) -> Failure:
        message = f"{self._session.base_url} answers with a batch that has no name"
        return Failure(FailureKind.NOT_AN_ANSWER, message, may_be_billed=False)


def _is_definite(error: ApiError) -> bool:
    """Return whether the server surely did not create a batch."""
    return error.http_status in _NOT_CREATED or 300 <= error.http_status < 400


def _is_past(found: list[RemoteBatch], in_page: int, since: datetime) -> bool:
    """Return whether the last page has only batches from before a time, and so has the rest."""
    times = [batch.created_at for batch in found]
    known = [time for time in times if time is not None]
    is_newest_first = len(known) == len(times) and known == sorted(known, reverse=True)
    return is_newest_first and in_page > 0 and all(time < since for time in known[-in_page:])
