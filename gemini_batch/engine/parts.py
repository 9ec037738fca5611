"""The parts that all phases of a run share: its logs, its committer, its connections."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gemini_batch.client.transport import Transport
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.origins import Origins
from gemini_batch.engine.parents import Parents
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.errors import storage_errors
from gemini_batch.inputs import Downscaler, Inputs
from gemini_batch.inputs.objects import ObjectFetcher
from gemini_batch.output.bucket.parents import BucketPictures
from gemini_batch.output.inflight import InFlightLog
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.plan import CallState
from gemini_batch.plan.build import price_table
from gemini_batch.plan.chaining import Chaining

if TYPE_CHECKING:  # it imports all that sends
    from gemini_batch.engine.batch.route import BatchRoute


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts; without batches there is no route for them."""

    transport: Transport
    committer: Committer
    remote: RemoteReplies
    preprocess: Preprocessor
    batches: "BatchRoute | None"


@asynccontextmanager
async def open_parts(base_url: str, of: Origins) -> AsyncIterator[Parts]:
    """Yield the parts of a run, which are open as long as the block.

    Raises:
        StorageError: The output folder can't be opened.
    """
    from gemini_batch.client.interactive import InteractiveTransport
    from gemini_batch.client.remote_images import RemoteImages

    config, clock = of.config, of.clock
    async with AsyncExitStack() as stack:
        rows, in_flight = stack.enter_context(_opened_logs(of))
        prices = price_table(config)
        committer = Committer(of.folder, rows, in_flight, prices, config.endpoint, clock, of.note)
        transport = await stack.enter_async_context(InteractiveTransport(config, base_url, clock))
        images = RemoteImages(base_url, clock, config.certificates)
        remote = RemoteReplies(await stack.enter_async_context(images), committer, clock)
        preprocess = _preprocessor(of, committer, remote)
        batches = None
        if of.has_batches:
            from gemini_batch.engine.batch.opening import open_route

            opening = open_route(
                base_url,
                of,
                committer=committer,
                remote=remote,
                preprocess=preprocess,
                rows=rows,
            )
            batches = await stack.enter_async_context(opening)
        yield Parts(transport, committer, remote, preprocess, batches)


def _preprocessor(of: Origins, committer: Committer, remote: RemoteReplies) -> Preprocessor:
    history, chaining = of.planned.history, of.planned.chaining
    return Preprocessor(
        of.folder,
        committer,
        of.clock,
        of.observe,
        interrupted=of.interrupted,
        remote=remote,
        skip_uncertain=of.config.skip_uncertain,
        reuse=history.reuse,
        adopts=history.adopts,
        unfetched=history.unfetched,
        downscaler=Downscaler(of.folder.inputs) if of.config.max_input_pixels else None,
        fetcher=ObjectFetcher(of.folder.inputs, of.config.max_input_pixels),
        parents=None if chaining is None else _parents(of, chaining),
        leave=of.planned.leave,
    )


def _parents(of: Origins, chaining: Chaining) -> Parents:
    out = of.planned.out  # other workers may have made the pictures
    inputs = Inputs(out, of.config.max_input_pixels, is_brief=True)
    bucket = None if of.store is None else BucketPictures(of.store, out, of.folder.inputs)
    return Parents(out, inputs, of.clock, chaining.picture_place, bucket)


@contextmanager
def _opened_logs(of: Origins) -> Iterator[tuple[ResultsFile, InFlightLog]]:
    # A call that was reported and is sent again is reported once. One whose answer was journaled,
    # or that is not sent again or not yet, stays in the log.
    interrupted, folder = of.interrupted, of.folder
    has_later = of.planned.plan.count(CallState.LATER) > 0 or of.planned.chaining is not None
    still_open = {
        call_id: request_sha256
        for call_id, request_sha256 in interrupted.unanswered.items()
        if of.config.skip_uncertain or has_later or call_id in interrupted.journaled
    }
    with ExitStack() as stack:
        with storage_errors(f"{folder.out}: can't be written"):
            rows = stack.enter_context(closing(ResultsFile(folder.out, folder.root())))
            log = InFlightLog(folder.private, rows.end_bytes, still_open)
            stack.enter_context(closing(log))
        yield rows, log
