"""Short texts for errors of a connection; the library's own name sockets and Python classes."""

import os
import re

import aiohttp


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


def _message(error: Exception) -> str:
    """Return the error's message without the HTTP status that the library puts before some."""
    for each in (error.__cause__, error):
        message = getattr(each, "message", None)
        if isinstance(message, str) and message:
            return message
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "Server disconnected"
    return str(error) or type(error).__name__
