"""The Batch API: create, get, list, cancel and delete a batch of requests in a file.

https://ai.google.dev/gemini-api/docs/batch-api (2026-11-30).
"""

from datetime import datetime

from gemini_batch.client.rest import RestSession
from gemini_batch.records import ApiError, Failure
from gemini_batch.records.remote_batch import CreateOutcome, Listing, RemoteBatch


class Batches:
    """Batches of one server, over the connections of a `RestSession`."""

    def __init__(self, session: RestSession) -> None:
        raise NotImplementedError

    async def create(self, model: str, display_name: str, input_file: str) -> CreateOutcome:
        """Create a batch of the requests in an uploaded file, `files/…`; send this once.

        A create is not idempotent: sent twice, it makes two batches, and both are paid for. So
        nothing here repeats it, and everything that is not a definite no is `Unknown`.

        Cancellation: `Unknown` as well.
        """
        raise NotImplementedError

    async def get(self, name: str) -> RemoteBatch | ApiError | Failure:
        """Return a batch by its name, `batches/…`. A 404 is a miss, and no proof that it is gone.

        Cancellation: safe.
        """
        raise NotImplementedError

    async def list(self, since: datetime | None = None) -> Listing:
        """Return the batches of the key's project, of all pages.

        With `since` it stops at the page whose batches are all older, as long as the list has
        shown the newest first.

        Cancellation: safe.
        """
        raise NotImplementedError

    async def cancel(self, name: str) -> ApiError | Failure | None:
        """Ask for the end of a batch, which still may complete; None once the server accepts.

        Cancellation: the request may have arrived.
        """
        raise NotImplementedError

    async def delete(self, name: str) -> ApiError | Failure | None:
        """Delete a batch that has ended; None if it is deleted, or was not there.

        Never call it for a batch that runs: the documentation contradicts itself on whether that
        stops the work, and its results are gone.

        Cancellation: the request may have arrived.
        """
        raise NotImplementedError
