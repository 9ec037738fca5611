"""Count of the requests for files and batches, by method of the API."""

from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

# HTTP method and route -> method of the API.
_METHODS = {
    ("POST", "/upload/{version}/files"): "files.upload",
    ("PUT", "/upload/{version}/files"): "files.upload",
    ("GET", "/{version}/files"): "files.list",
    ("GET", "/{version}/files/{file}"): "files.get",
    ("DELETE", "/{version}/files/{file}"): "files.delete",
    ("GET", "/{version}/files/{file}:download"): "files.download",
    ("GET", "/download/{version}/files/{file}:download"): "files.download",
    ("POST", "/{version}/models/{model}:batchGenerateContent"): "batches.create",
    ("GET", "/{version}/batches"): "batches.list",
    ("GET", "/{version}/batches/{batch}"): "batches.get",
    ("POST", "/{version}/batches/{batch}:cancel"): "batches.cancel",
    ("DELETE", "/{version}/batches/{batch}"): "batches.delete",
}


def counting_middleware(count: Callable[[str], None]) -> Middleware:
    """Return a middleware that counts each request when it arrives."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and (method := _METHODS.get((request.method, resource.canonical))):
            count(method)
        return await handler(request)

    return middleware
