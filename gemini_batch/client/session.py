"""The HTTP session of a run: its credentials, its proxy, its certificates, and its limits."""

from math import inf

import aiohttp
from yarl import URL

from gemini_batch.client.credentials import (
    Credentials,
    KeyCredentials,
    Token,
    TokenCredentials,
)
from gemini_batch.client.pool import Pool
from gemini_batch.client.proxies import proxy_address
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.version import __version__

# What all connections may read at once. When answers arrive faster than they are decoded, a
# connection holds what it read twice: 128 of them take 97 MB in all, with 64 KiB a read 83 MB and a
# third more CPU.
_ALL_READS_BYTES = 16 << 20
_MAX_READ_BYTES = 1 << 18
# A connection that has twice as much pauses. With the library's own 64 KiB it pauses after each
# read, which costs a tenth of an answer.
READ_BUFFER_BYTES = _MAX_READ_BYTES // 2
# Servers behind gateways send longer headers than the library's 8 KiB.
MAX_HEADER_BYTES = 1 << 16


def open_session(config: Settings) -> aiohttp.ClientSession:
    """Open a session; what allows a request is in its own headers, or in its query."""
    headers = {
        # gzip would cost three times the CPU and save nothing: images do not compress.
        "Accept-Encoding": "identity",
        "User-Agent": f"gemini_batch/{__version__}",
    }
    # As many connections as calls in flight: no call waits between its permit and its request.
    share_bytes = max(1 << 12, _ALL_READS_BYTES // config.concurrency)
    connector = Pool(
        read_bytes=min(_MAX_READ_BYTES, share_bytes),
        limit=config.concurrency,
        ttl_dns_cache=300,
        keepalive_timeout=60,
        ssl=config.certificates or True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        proxy=proxy_address(config.proxy),
        # `connect` includes the name lookup; `sock_connect` does not.
        timeout=aiohttp.ClientTimeout(
            total=None, connect=config.timeouts.connect_s, sock_connect=None
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=min(READ_BUFFER_BYTES, share_bytes // 4),
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


def credentials_for(config: Settings, clock: Clock) -> Credentials:
    """Return the credentials of a run: its key, or its login."""
    if config.vertex is None:
        return KeyCredentials(config.api_key, in_header=config.auth == "header")
    if config.api_key:  # of the embedded simulator
        headers = {"Authorization": f"Bearer {config.api_key}"}
        token = Token(headers, inf, KeyRedactor(config.api_key))
        return TokenCredentials(lambda: token, clock)
    from gemini_batch.client.google_tokens import GoogleTokens  # needs an extra

    return TokenCredentials(GoogleTokens(config.certificates), clock)
