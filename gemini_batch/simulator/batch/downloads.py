"""Route of the downloads of result files: whole, or a range."""

import asyncio
import random
import re
from dataclasses import dataclass

from aiohttp import web

from gemini_batch.simulator import bodies
from gemini_batch.simulator.audit import fingerprint
from gemini_batch.simulator.batch import errors
from gemini_batch.simulator.batch.batch import Batch
from gemini_batch.simulator.batch.line_maker import LineMaker
from gemini_batch.simulator.batch.output import output_lines
from gemini_batch.simulator.batch.results import Results
from gemini_batch.simulator.batch.store import BatchStore
from gemini_batch.simulator.batch.stored_files import FileStore
from gemini_batch.simulator.batch_faults import At
from gemini_batch.simulator.batch_schedule import Drawn
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.delivery import flushed, redirected, reset_connection
from gemini_batch.simulator.failures import error_response
from gemini_batch.simulator.incoming import key_problem, request_key

_BLOCK_BYTES = 1024 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_HALVES = ("download-cut", "download-short", "download-stall")


@dataclass(frozen=True, eq=False, repr=False)
class DownloadRoutes:
    """Handlers of `files/ID:download?alt=media`."""

    config: SimulatorConfig
    clock: SettableClock
    files: FileStore
    store: BatchStore
    maker: LineMaker

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        for prefix in ("", "/download"):
            path = prefix + "/{version:v1beta|v1}/files/{file:[^/:]+}:download"
            app.router.add_get(path, self.download)

    async def download(self, request: web.Request) -> web.StreamResponse:
        """Send a result file, or a range of it."""
        batch = self._find(request)
        if isinstance(batch, ErrorBody):
            return error_response(batch)
        drawn = self.store.draw(At.DOWNLOAD, batch)
        if "download-404" in drawn:
            return error_response(errors.not_found())
        if "download-503" in drawn:
            return error_response(errors.unavailable())
        if "download-redirect" in drawn:
            return redirected(request)
        results = self._results(batch, is_shuffled="corrupt-output" in drawn)
        return await _Sending(self.config, request, results, drawn).send()

    def _find(self, request: web.Request) -> Batch | ErrorBody:
        """Return the batch whose result file is asked for, or the error if there is none."""
        problem = key_problem(request, self.config)
        if problem is not None:
            return problem
        project, file_id = fingerprint(request_key(request)), request.match_info["file"]
        if self.files.get(project, file_id) is not None:
            return bodies.error(400, "Only generated files can be downloaded.")  # derived
        batch = self.store.get(project, file_id.removeprefix("batch-"))
        now = self.clock.utc()
        if batch is None or batch.output_id != file_id or not batch.has_output(now):
            return errors.not_found()
        return batch

    def _results(self, batch: Batch, *, is_shuffled: bool) -> Results:
        """Return the result file of a batch, or one in an order of its own."""
        batch.downloads += 1
        if batch.results is not None and not is_shuffled:
            return batch.results
        lines = output_lines(batch.answered(self.clock.utc()))
        rng = random.Random(f"{self.config.seed}/{batch.id}/{batch.downloads}")
        if is_shuffled or "shuffled" in batch.faults:
            rng.shuffle(lines)
        results = Results(lines, batch.input.data, self.maker, batch.origin)
        if not is_shuffled:
            batch.results = results
        return results


class _Sending:
    """One download."""

    def __init__(
        self, config: SimulatorConfig, request: web.Request, results: Results, drawn: Drawn
    ) -> None:
        self._config = config
        self._request = request
        self._results = results
        self._drawn = drawn

    async def send(self) -> web.StreamResponse:
        """Send what was asked for, or half of it."""
        asked = _RANGE.fullmatch(self._request.headers.get("Range", ""))
        is_range = asked is not None and "no-range" not in self._drawn
        is_half = not {*_HALVES}.isdisjoint(self._drawn)
        if is_range or is_half:
            await self._results.complete()
        size = self._results.made.size_bytes if self._results.is_complete else None
        headers = {"Content-Type": "application/octet-stream"}
        start, end = 0, size
        if asked is not None and is_range and size is not None:
            said, start, end = self._range(asked, size)
            if start >= end:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
            headers["Content-Range"] = f"bytes {said}-{said + end - start - 1}/{size}"
        stop = self._middle(start, end) if is_half and end is not None else end
        if "download-short" in self._drawn:
            end = stop
        response = web.StreamResponse(status=206 if is_range else 200, headers=headers)
        if end is not None and "no-length" not in self._drawn:
            response.content_length = end - start
        await response.prepare(self._request)
        await self._copy(response, start, stop)
        if stop != end:
            return await self._break(response)
        await response.write_eof()
        return response

    def _range(self, asked: re.Match[str], size_bytes: int) -> tuple[int, int, int]:
        """Return the start that the answer says, and start and end of the bytes that it has."""
        start = int(asked[1])
        end = min(int(asked[2]) + 1, size_bytes) if asked[2] else size_bytes
        if "bad-range" in self._drawn:
            return start // 2, start // 2, end
        if "lying-range" in self._drawn:
            return start, start // 2, start // 2 + end - start
        return start, start, end

    def _middle(self, start: int, end: int) -> int:
        """Return a place about half-way that is not the end of a line."""
        at = start + (end - start) // 2
        return at - 1 if self._results.made.read(at - 1, 1) == b"\n" else at

    async def _copy(self, response: web.StreamResponse, start: int, stop: int | None) -> None:
        """Send the bytes to `stop`, or to the end of the file; make lines on the way."""
        made = self._results.made
        while stop is None or start < stop:
            if start >= made.size_bytes:
                if self._results.is_complete:
                    return
                await self._results.extend(start)
                continue
            size = _BLOCK_BYTES if stop is None else min(_BLOCK_BYTES, stop - start)
            block = await asyncio.to_thread(made.read, start, size)
            await response.write(block)
            start += len(block)

    async def _break(self, response: web.StreamResponse) -> web.StreamResponse:
        """Reset the connection, at once or when the client has waited."""
        await flushed(self._request)
        stall_s = self._drawn.get("download-stall") or 0.0
        await asyncio.sleep(min(stall_s, self._config.hang_s))
        reset_connection(self._request)
        return response
