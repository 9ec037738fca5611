"""Opening of the batch route: its connections, its notes, and its parts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

from gemini_batch.client.batches import Batches
from gemini_batch.client.files import Files
from gemini_batch.client.rest import RestSession
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.engine.batch.collect import Collector
from gemini_batch.engine.batch.cut import Cutter
from gemini_batch.engine.batch.look import Looker
from gemini_batch.engine.batch.money import BatchMoney
from gemini_batch.engine.batch.route import BatchRoute
from gemini_batch.engine.batch.submit import Submitter
from gemini_batch.engine.budget import Budget
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.events import Observer
from gemini_batch.output import OutputFolder
from gemini_batch.output.batches import BatchNotes
from gemini_batch.plan.build import price_table
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.quota.shared import project_of


@asynccontextmanager
async def open_route(
    base_url: str,
    *,
    config: Settings,
    folder: OutputFolder,
    planned: BuiltPlan,
    committer: Committer,
    remote: RemoteReplies,
    preprocess: Preprocessor,
    budget: Budget,
    rows_bytes: Callable[[], int],
    stopped: asyncio.Event,
    ended: asyncio.Event,
    clock: Clock,
    observe: Observer,
) -> AsyncIterator[BatchRoute]:
    """Yield the batch route of a run, whose connections are open as long as the block."""
    money = BatchMoney(budget)
    waiting, project = planned.history.waiting, project_of(config.api_key, config.quota_scope)
    async with RestSession(config, base_url, clock) as session, Files(session) as files:
        batches = Batches(session)
        with closing(BatchNotes(folder.out)) as notes:
            looker = Looker(
                batches=batches,
                notes=notes,
                clock=clock,
                observe=observe,
                project=project,
                patience_s=config.batch_patience_s,
            )
            collector = Collector(
                folder=folder,
                committer=committer,
                remote=remote,
                files=files,
                money=money,
                clock=clock,
                observe=observe,
                batch_tries=planned.history.batch_tries,
                is_stopped=ended.is_set,
                skip_uncertain=config.skip_uncertain,
            )
            submitter = Submitter(
                files=files,
                batches=batches,
                looker=looker,
                cutter=Cutter(config=config, budget=budget, price_table=price_table(config)),
                money=money,
                notes=notes,
                waiting=waiting,
                committer=committer,
                preprocess=preprocess,
                config=config,
                successors=planned.successors,
                project=project,
                rows_bytes=rows_bytes,
                stopped=stopped,
                clock=clock,
                observe=observe,
            )
            yield BatchRoute(
                looker=looker,
                collector=collector,
                submitter=submitter,
                notes=notes,
                waiting=waiting,
                config=config,
                clock=clock,
                observe=observe,
                ended=ended,
            )
