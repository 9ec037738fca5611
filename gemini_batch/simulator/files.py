"""Pictures that answers name by URI: `/files/MODE/NAME`, where the mode says what a GET gets."""

import hashlib
from collections import Counter
from enum import StrEnum

from aiohttp import web

from gemini_batch.simulator.delivery import OutgoingAnswer, trickle, truncated
from gemini_batch.simulator.pictures import EncodedImage

_MAX_FILES = 1_000
_SLOW_S = 2.0


class Mode(StrEnum):
    """Behaviors of a picture's URI."""

    WHOLE = "whole"
    SLOW = "slow"
    CUT_ONCE = "cut-once"
    GONE = "gone"
    GONE_ONCE = "gone-once"
    REDIRECT = "redirect"
    PAGE = "page"


class HostedFiles:
    """The newest pictures, in memory."""

    def __init__(self) -> None:
        self._images: dict[str, EncodedImage] = {}
        self._asked: Counter[str] = Counter()

    def add_to(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get("/files/{mode}/{name}", self.serve)

    def add(self, mode: Mode, image: EncodedImage) -> str:
        """Keep a picture; return its path."""
        name = hashlib.sha256(image.data).hexdigest()[:32]
        self._images[name] = image
        if len(self._images) > _MAX_FILES:
            del self._images[next(iter(self._images))]
        return f"/files/{mode}/{name}"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer with a picture, or with what its mode puts in its place."""
        mode, name = request.match_info["mode"], request.match_info["name"]
        image = self._images.get(name)
        self._asked[request.path] += 1
        is_first = self._asked[request.path] == 1
        if image is None or mode == Mode.GONE or (mode == Mode.GONE_ONCE and is_first):
            return web.Response(status=404, text="no such file")
        if mode == Mode.REDIRECT:
            return web.Response(status=302, headers={"Location": f"/files/{Mode.WHOLE}/{name}"})
        if mode == Mode.PAGE:
            page = "<!doctype html><title>Sign in</title>"
            return web.Response(text=page, content_type="text/html")
        headers = {"Content-Type": image.mime_type}
        answer = OutgoingAnswer(request, 200, image.data, headers, _SLOW_S)
        if mode == Mode.CUT_ONCE and is_first:
            return await truncated(answer)
        if mode == Mode.SLOW:
            return await trickle(answer)
        return web.Response(body=image.data, headers=headers)
