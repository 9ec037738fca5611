"""The parts of the Files API and the Batch API, put together."""

from aiohttp import web

from gemini_batch.simulator.batch.creation import BatchStore, Creator
from gemini_batch.simulator.batch.file_routes import FileRoutes
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.routes import BatchRoutes
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch.uploads import UploadRoutes
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig


class BatchApi:
    """Files and batches of one simulator."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock, maker: LineMaker) -> None:
        files, store = FileStore(config, clock), BatchStore(config, clock)
        creator = Creator(config, clock, files, store, maker)
        self._routes = (
            UploadRoutes(config, clock, files),
            FileRoutes(config, clock, files, creator.find_results),
            BatchRoutes(config, clock, store, creator),
        )

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for routes in self._routes:
            routes.add_to(app)
