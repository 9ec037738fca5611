"""Addresses of forward proxies, as the HTTP library takes them."""

from yarl import URL

from gemini_batch.config.network import Proxy


def proxy_address(proxy: Proxy | None) -> URL | None:
    """Return a proxy's address with its credentials, which the library takes out of it."""
    if proxy is None or proxy.user is None:
        return None if proxy is None else URL(proxy.url)
    return URL(proxy.url).with_user(proxy.user).with_password(proxy.password)
