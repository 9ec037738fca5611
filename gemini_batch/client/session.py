"""The HTTP session of a run: its key, its proxy, its certificates, and its limits."""

from collections.abc import Mapping
from types import MappingProxyType

import aiohttp
from yarl import URL

from gemini_batch.client.pool import Pool
from gemini_batch.client.proxies import proxy_address
from gemini_batch.config import Settings
from gemini_batch.version import __version__

# Half of what asyncio reads at once. With the library's own 64 KiB a connection pauses after each
# read, which costs a tenth of an answer.
READ_BUFFER_BYTES = 1 << 17
# Servers behind gateways send longer headers than the library's 8 KiB.
MAX_HEADER_BYTES = 1 << 16


def open_session(config: Settings) -> aiohttp.ClientSession:
    """Open a session that sends the key in a header, unless it goes into the query."""
    return open_keyless_session(config, key_headers(config))


def open_keyless_session(
    config: Settings, headers: Mapping[str, str] = MappingProxyType({})
) -> aiohttp.ClientSession:
    """Open a session that sends these headers, and no key of its own."""
    always = {
        # gzip would cost three times the CPU and save nothing: images do not compress.
        "Accept-Encoding": "identity",
        "User-Agent": f"gemini_batch/{__version__}",
    }
    # As many connections as calls in flight: no call waits between its permit and its request.
    connector = Pool(
        limit=config.concurrency,
        ttl_dns_cache=300,
        keepalive_timeout=60,
        ssl=config.certificates or True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=always | dict(headers),
        proxy=proxy_address(config.proxy),
        # `connect` includes the name lookup; `sock_connect` does not.
        timeout=aiohttp.ClientTimeout(
            total=None, connect=config.timeouts.connect_s, sock_connect=None
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=READ_BUFFER_BYTES,
        auto_decompress=False,  # the first bytes show more than the headers
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )


def key_headers(config: Settings) -> dict[str, str]:
    """Return the header with the key, if it goes into one."""
    return {"x-goog-api-key": config.api_key} if config.auth == "header" else {}


def with_key(url: str, config: Settings) -> URL:
    """Return the URL of a request, with the key if it goes into the query."""
    found = URL(url, encoded=True)
    return found.update_query(key=config.api_key) if config.auth == "query" else found
