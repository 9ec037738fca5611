"""Opening of the batch route: its connections, its notes, and its parts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

from gemini_batch.client.batches import Batches
from gemini_batch.client.files import Files
from gemini_batch.client.rest import RestSession
from gemini_batch.engine.batch.collect import Collector
from gemini_batch.engine.batch.cut import Cutter
from gemini_batch.engine.batch.look import Looker
from gemini_batch.engine.batch.money import BatchMoney
from gemini_batch.engine.batch.route import BatchRoute
from gemini_batch.engine.batch.submit import Submitter
from gemini_batch.engine.commit import Committer
from gemini_batch.engine.origins import Origins
from gemini_batch.engine.preprocess import Preprocessor
from gemini_batch.engine.remote import RemoteReplies
from gemini_batch.output.batches import BatchNotes
from gemini_batch.output.results_file import ResultsFile
from gemini_batch.plan.build import price_table
from gemini_batch.quota.shared import project_of


@asynccontextmanager
async def open_route(
    base_url: str,
    of: Origins,
    *,
    committer: Committer,
    remote: RemoteReplies,
    preprocess: Preprocessor,
    rows: ResultsFile,
) -> AsyncIterator[BatchRoute]:
    """Yield the batch route of a run, whose connections are open as long as the block."""
    config, clock, observe = of.config, of.clock, of.observe
    money, history = BatchMoney(of.budget), of.planned.history
    async with RestSession(config, base_url, clock) as session, Files(session) as files:
        batches = Batches(session)
        project = project_of(config.api_key, config.quota_scope)
        with closing(BatchNotes(of.folder.out)) as notes:
            looker = Looker(
                batches=batches,
                notes=notes,
                clock=clock,
                observe=observe,
                project=project,
                patience_s=config.batch_patience_s,
            )
            collector = Collector(
                folder=of.folder,
                committer=committer,
                remote=remote,
                files=files,
                money=money,
                clock=clock,
                observe=observe,
                batch_tries=history.batch_tries,
                is_stopped=of.ended.is_set,
                skip_uncertain=config.skip_uncertain,
            )
            submitter = Submitter(
                files=files,
                batches=batches,
                looker=looker,
                notes=notes,
                project=project,
                cutter=Cutter(config=config, budget=of.budget, price_table=price_table(config)),
                money=money,
                waiting=history.waiting,
                committer=committer,
                preprocess=preprocess,
                config=config,
                successors=of.planned.successors,
                rows=rows,
                stopped=of.stopped,
                clock=clock,
                observe=observe,
            )
            yield BatchRoute(
                looker=looker,
                notes=notes,
                collector=collector,
                submitter=submitter,
                waiting=history.waiting,
                config=config,
                clock=clock,
                observe=observe,
                ended=of.ended,
            )
