"""Refusal of requests that a web page of another site sends to a simulator on loopback.

A browser on this machine sends them for any page. A page whose host name leads to 127.0.0.1 could
also read the answers (DNS rebinding), and only its Host header shows it.
"""

import ipaddress

from aiohttp import web
from aiohttp.typedefs import Handler

_NAMES = ("127.0.0.1", "localhost", "[::1]")


@web.middleware
async def own_host_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer 421 if a request that came by loopback names another host or port."""
    wanted, own = request.headers.get("Host"), _own_hosts(request)
    if wanted is None or not own or wanted.lower() in own:
        return await handler(request)
    message = f"this is a simulator on loopback: got Host {wanted!r}; allowed: {', '.join(own)}"
    return web.json_response({"error": message}, status=421)


def clock_refusal(request: web.Request) -> web.Response | None:
    """Return the answer to a request that could come from a page of another site; None if not."""
    origin = request.headers.get("Origin")
    if origin not in (None, f"http://{request.headers.get('Host')}"):
        message, status = f"got Origin {origin!r}; allowed: the simulator's own, or none", 403
    elif request.content_type != "application/json":
        message, status = "send JSON, with Content-Type: application/json", 415
    else:
        return None
    return web.json_response({"error": message}, status=status)


def _own_hosts(request: web.Request) -> list[str]:
    """Return the allowed Host headers; none if the request came from another machine."""
    address, port, *_ = request.get_extra_info("sockname") or ("", 0)
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return []
    if not (getattr(own, "ipv4_mapped", None) or own).is_loopback:
        return []
    names = dict.fromkeys((*_NAMES, f"[{own}]" if own.version == 6 else str(own)))
    return [f"{name}:{port}" for name in names] + [name for name in names if port == 80]
