"""Short texts for errors of a connection; the library's own name sockets and Python classes."""

import os
import re

import aiohttp
from aiohttp.http_exceptions import (
    ContentLengthError,
    HttpProcessingError,
    TransferEncodingError,
)

from gemini_batch.config.network import Proxy, why_direct
from gemini_batch.records import FailureKind

# The connection ended within the body.
_CUT_OFF = (ContentLengthError, TransferEncodingError)
# Messages of aiohttp 3.13 and of llhttp 9, and what they mean.
_REFUSALS = [
    (re.compile(pattern), reason)
    for pattern, reason in (
        ("interim answers", "it comes after more than 100 interim answers (1xx)"),
        ("^Duplicate Content-Length", "it has two Content-Length headers"),
        ("Content-Length.* can't be present", "it has a Content-Length and is chunked"),
        ("can't be present with Content-Length", "it has a Content-Length and is chunked"),
        ("Content-Length", "its Content-Length is not valid"),
        ("^Got more than|^Too many headers", "its headers are too long"),
        ("(?i)chunk", "its chunks are not valid"),
        ("^Expected HTTP/|^Bad status line|^Invalid HTTP version", "its status line is not valid"),
        ("(?i)header", "its headers are not valid"),
        ("(?i)status", "its status line is not valid"),
    )
]


def connection_failure(
    error: Exception, base_url: str, proxy: Proxy | None
) -> tuple[FailureKind, str]:
    """Return the kind and the message of a connection that could not be made."""
    detail = describe_connection_error(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        advice = "if your network has a certificate authority of its own, name it in SSL_CERT_FILE"
        return FailureKind.CERTIFICATE, f"no connection to {base_url}: {detail}; {advice}"
    if proxy is None:
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            detail += f"; {why_direct(base_url)}"
        return FailureKind.UNREACHABLE, f"no connection to {base_url}: {detail}"
    named = f"the proxy {proxy.host} that {proxy.variable} names"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"{named} refuses to connect to {base_url}: {error.status} {error.message}"
        if error.status == 407:
            message += f"; write its user and password into {proxy.variable}"
        # A proxy that fails, or does not reach the server, may do so later.
        kind = FailureKind.PROXY if 400 <= error.status < 500 else FailureKind.UNREACHABLE
        return kind, message
    is_of_proxy = isinstance(
        error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError
    )
    way = (
        f"no connection to {named}"
        if is_of_proxy
        else f"no connection to {base_url} through {named}"
    )
    return FailureKind.UNREACHABLE, f"{way}: {detail}"


def describe_connection_error(error: Exception) -> str:
    """Return the system's text for what went wrong, if there is one."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return f"the name {error.host} can't be resolved, or there is no network"
        case aiohttp.ClientConnectorCertificateError():
            return f"its certificate is not trusted here ({error.certificate_error})"
        case aiohttp.ClientSSLError():
            reason = getattr(error.os_error, "reason", None)
            return "TLS error" + (f" ({reason})" if reason else "")
        case aiohttp.ClientPayloadError():
            return re.sub(r": <\w+Error: .*>|\w+Error\(\d+, '(.*?)'\)", r"\1", _message(error))
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number)
        case _:
            return _message(error)


def describe_refusal(error: Exception) -> str | None:
    """Return why the library refuses the HTTP of an answer; None if the connection broke.

    The library's own text quotes the answer.
    """
    refusal = error.__cause__
    if not isinstance(refusal, HttpProcessingError) or isinstance(refusal, _CUT_OFF):
        return None
    found = (reason for pattern, reason in _REFUSALS if pattern.search(refusal.message))
    return next(found, "its HTTP is not valid")


def _message(error: Exception) -> str:
    """Return the error's message without the HTTP status that the library puts before some."""
    for each in (error.__cause__, error):
        message = getattr(each, "message", None)
        if isinstance(message, str) and message:
            return message
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "Server disconnected"
    return str(error) or type(error).__name__
