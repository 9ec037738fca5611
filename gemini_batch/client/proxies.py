"""Credentials of a forward proxy, as the HTTP library takes them."""

import aiohttp

from gemini_batch.config.network import Proxy


def basic_auth(proxy: Proxy | None) -> aiohttp.BasicAuth | None:
    """Return the credentials of a proxy; None without any."""
    if proxy is None or proxy.user is None:
        return None
    return aiohttp.BasicAuth(proxy.user, proxy.password, encoding="utf-8")
