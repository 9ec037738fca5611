"""The parts of the Files API and the Batch API, put together."""

from itertools import islice
from typing import Any

from aiohttp import web

from gemini_batch.simulator.batch.billing import bill, summary
from gemini_batch.simulator.batch.creation import Creator
from gemini_batch.simulator.batch.downloads import DownloadRoutes
from gemini_batch.simulator.batch.draws import Draws
from gemini_batch.simulator.batch.file_routes import FileRoutes
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.routes import BatchRoutes
from gemini_batch.simulator.batch.store import BatchStore
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch.uploads import UploadRoutes
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.paid import PaidAnswers

_MAX_SHOWN = 1_000


class BatchApi:
    """Files and batches of one simulator."""

    def __init__(
        self,
        config: SimulatorConfig,
        clock: SettableClock,
        maker: LineMaker,
        draws: Draws,
        paid: PaidAnswers,
    ) -> None:
        self._clock = clock
        self._paid = paid
        self.store = BatchStore(config, clock, draws)
        files = FileStore(config, clock)
        creator = Creator(config, clock, files, self.store, maker, draws)
        self._batches = BatchRoutes(config, clock, self.store, creator, maker, draws=draws)
        self._routes = (
            UploadRoutes(config, clock, files, draws),
            FileRoutes(config, clock, files),
            DownloadRoutes(config, clock, files, self.store, maker),
            self._batches,
        )

    async def close(self) -> None:
        """Wait for the batches that are being made."""
        await self._batches.close()

    def report(self) -> list[dict[str, Any]]:
        """Return the newest batches as JSON, after counting the answers of those that ended."""
        now = self._clock.utc()
        for batch in self.store.batches.values():
            bill(batch, now, self._paid)
        newest = list(islice(reversed(self.store.batches.values()), _MAX_SHOWN))
        return [summary(batch, now) for batch in reversed(newest)]

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for routes in self._routes:
            routes.add_to(app)
