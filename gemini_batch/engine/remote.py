"""Remote images: an answer that names its images by URI gets them before its row is written.

Such an answer is paid for. It is kept on the disk while they are fetched; if that fails, its row is
`failed` and holds the URIs, and the next run fetches before it pays again.
"""

import asyncio
from dataclasses import dataclass, replace

from gemini_batch.client.transport import ImageFetcher
from gemini_batch.clock import Clock
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.result_row import Attempted
from gemini_batch.output import StagedAnswer
from gemini_batch.output.staging import StagedFile
from gemini_batch.records import (
    Failure,
    FailureKind,
    FetchProblem,
    IncomingImage,
    NotFetched,
    RemoteImage,
    Reply,
    ResultRow,
)

FETCH_S = 60.0
"""Time for all images of an answer: name look-ups, redirects and repeats included."""
MAX_DRAFTS_BYTES = 192 * 2**20
"""With more of them on the disk no further draft is fetched; with the image it is 256 MiB."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A reply with the images that were fetched; `problem` is the one with the result itself."""

    reply: Reply
    problem: NotFetched | None


@dataclass(eq=False, repr=False)
class RemoteReplies:
    """Completes replies with their remote images, and commits them."""

    _fetcher: ImageFetcher
    _committer: Committer
    _clock: Clock

    async def commit(
        self, attempted: Attempted, reply: Reply, staged: StagedAnswer, inline_images: int
    ) -> ResultRow:
        """Fetch the images of an answer that is whole, and write its row.

        `inline_images` is the number of staged files that it has already.

        Cancellation: the answer stays kept, and the next run fetches its images.

        Raises:
            StorageError: The disk refused; the answer stays kept.
        """
        staged.keep_journaled()
        return self.write(attempted, await self.fetch(reply, staged, inline_images))

    async def fetch_again(
        self, attempted: Attempted, row: ResultRow, staged: StagedAnswer
    ) -> NotFetched | ResultRow:
        """Fetch the images of an earlier `failed` row; return the new row, or that they are gone.

        If it fails without a definite answer, the new row is `failed` again.

        Cancellation: safe; the earlier row remains.

        Raises:
            StorageError: The disk refused.
        """
        fetched = await self.fetch(_reply(row), staged, 0)
        if fetched.problem is not None and fetched.problem.problem is FetchProblem.GONE:
            return fetched.problem
        return self.write(attempted, fetched, is_paid=True)

    async def fetch(self, reply: Reply, staged: StagedAnswer, inline_images: int) -> Fetched:
        """Return the reply with what could be fetched.

        The result comes first, so that drafts do not take its time.

        Cancellation, and what it raises, as `commit`.
        """
        until_s = asyncio.get_running_loop().time() + FETCH_S
        image, drafts, missing = reply.image, list(reply.drafts), list[RemoteImage]()
        problem, result = None, _result(reply)
        if result is not None:
            fetched = await self._fetch(result, staged, inline_images, until_s)
            if isinstance(fetched, NotFetched):
                problem = fetched
            else:
                image = fetched
        others = (each for each in reply.remote if each is not result)
        for index, draft in enumerate(others, start=inline_images + 1):
            if sum(each.size_bytes for each in drafts) > MAX_DRAFTS_BYTES or isinstance(
                fetched := await self._fetch(draft, staged, index, until_s), NotFetched
            ):
                missing.append(draft)
            else:
                drafts.append(fetched)
        if problem is not None and result is not None:
            missing.append(result)
        completed = replace(reply, image=image, drafts=tuple(drafts), remote=tuple(missing))
        return Fetched(completed, problem)

    def write(self, attempted: Attempted, fetched: Fetched, *, is_paid: bool = False) -> ResultRow:
        """Write the row; raise StorageError if the disk refuses."""
        # Rows are in the order of finishing.
        timing = replace(attempted.timing, finished_at=self._clock.utc())
        attempted = replace(attempted, timing=timing)
        failure = _failure(fetched.problem) if fetched.problem else None
        return self._committer.reply(attempted, fetched.reply, failure=failure, is_paid=is_paid)

    async def _fetch(
        self, remote: RemoteImage, staged: StagedAnswer, index: int, until_s: float
    ) -> IncomingImage | NotFetched:
        tries: list[StagedFile] = []

        def open_sink() -> StagedFile:
            for file in tries:
                file.close()
            tries.append(staged.open_image(index))
            return tries[-1]

        problem = await self._fetcher.fetch(remote.uri, open_sink, until_s)
        return problem or replace(tries[-1].image(), mime_type=remote.mime_type)


def _result(reply: Reply) -> RemoteImage | None:
    """Return the last remote image that is not a thought, unless the answer holds an image."""
    if reply.image is not None:
        return None
    return next((each for each in reversed(reply.remote) if not each.is_thought), None)


def _failure(missing: NotFetched) -> Failure:
    match missing.problem:
        case FetchProblem.TRANSIENT:
            then = "run again to fetch it, at no cost"
        case FetchProblem.GONE:
            then = "the next run looks once more, and then sends the call, and pays for it, again"
        case FetchProblem.REFUSED:
            then = "the call is not sent, and paid for, again unless you say --retry unfetched"
    message = f"the answer's image was not fetched: {missing.message}; {then}"
    return Failure(FailureKind.NOT_FETCHED, message, may_be_billed=False)


def _reply(row: ResultRow) -> Reply:
    """Return the answer of a `failed` row whose images could not be fetched."""
    *drafts, result = row.remote_images
    remote = [RemoteImage(uri, "", is_thought=True) for uri in drafts]
    return Reply(
        image=None,
        drafts=(),
        text=row.text,
        finish_reason=row.finish_reason,
        finish_message=row.finish_message,
        block_reason=row.block_reason,
        safety_ratings=row.safety_ratings,
        usage=row.usage,
        model_version=row.model_version,
        response_id=row.response_id,
        remote=(*remote, RemoteImage(result, "", is_thought=False)),
        service_tier=row.service_tier,
    )
