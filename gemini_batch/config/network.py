"""The way to a server: the proxy and the certificates that the environment names."""

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from gemini_batch.config.no_proxy import is_exempt
from gemini_batch.errors import ConfigError

if TYPE_CHECKING:
    from ssl import SSLContext

PROXY_VARIABLES = {
    "http": ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"),
    "https": ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
}
"""Variables of the proxy for a target's scheme; the first that is set counts, as for curl:
https://curl.se/docs/manpage.html#ENVIRONMENT (2026-11-30)."""
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_PROXY_SCHEMES = ("http", "https")
_MIN_PASSWORD_CHARS = 6


@dataclass(frozen=True, slots=True)
class Proxy:
    """A forward proxy.

    Attributes:
        url: Its address, without credentials.
        variable: The environment variable that names it.
        user: For Basic authentication; None without.
    """

    url: str
    variable: str
    user: str | None = None
    password: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """Its host and port, for messages."""
        return urlsplit(self.url).netloc


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy for a request to this URL; None for a direct connection.

    A target on this machine is reached directly, and one that NO_PROXY names.

    Raises:
        ConfigError: The variable's value can't be used; the text has no credentials.
    """
    target = urlsplit(url)
    host = target.hostname or ""
    for variable in () if is_loopback(host) else PROXY_VARIABLES.get(target.scheme, ()):
        if variable == "HTTP_PROXY" and "REQUEST_METHOD" in environment:
            continue  # in a CGI script it is a header of the client: https://httpoxy.org
        if value := environment.get(variable, "").strip():
            no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
            return None if is_exempt(target, no_proxy) else _proxy(variable, value)
    return None


def proxy_passwords(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the credentials of all proxies that are named, to be kept out of a text.

    Each as it is written, `user:password`, and the password alone unless it may be part of a word.
    """
    values = (environment.get(name, "") for names in PROXY_VARIABLES.values() for name in names)
    users = [value.rpartition("@")[0].rpartition("//")[2] for value in values]
    spelled = [spelling for user in filter(None, users) for spelling in (user, unquote(user))]
    alone = (spelling.partition(":")[2] for spelling in spelled)
    found = [*spelled, *(password for password in alone if len(password) >= _MIN_PASSWORD_CHARS)]
    return list(dict.fromkeys(found))


def why_direct(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a phrase that says why no proxy is used for a request to this URL."""
    target = urlsplit(url)
    if is_loopback(target.hostname or ""):
        return "this machine is reached directly"
    names = PROXY_VARIABLES[target.scheme]
    found = next((name for name in names if environment.get(name, "").strip()), None)
    if found is None:
        return f"no proxy is set ({names[1]})"
    return f"{found} is set, and not used for this host (NO_PROXY)"


def trusted_certificates(environment: Mapping[str, str] = os.environ) -> "SSLContext | None":
    """Return a context that trusts the system's certificates and those of all `CA_VARIABLES`.

    Reading them can take a moment. None, for the HTTP library's own, if no variable is set.

    Raises:
        ConfigError: One of them names no certificates.
    """
    # Several variables often name one file.
    distinct = {path: variable for variable, path in ca_paths(environment)}
    if not distinct:
        return None
    import ssl  # only what sends needs it

    context = ssl.create_default_context()
    for path, variable in distinct.items():
        try:
            if path.is_dir():
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except (OSError, ssl.SSLError) as error:
            reason = "has no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(
                f"{variable}: {path}: {reason}; allowed: a file of certificates in PEM, or a "
                "folder of them"
            ) from error
    return context


def ca_paths(environment: Mapping[str, str] = os.environ) -> Iterator[tuple[str, Path]]:
    """Yield each variable that is set, with each path that it names."""
    for variable in CA_VARIABLES:
        value = environment.get(variable, "").strip()
        parts = value.split(os.pathsep) if variable == "SSL_CERT_DIR" else [value]
        for part in filter(None, parts):
            yield variable, Path(part)


def is_loopback(host: str) -> bool:
    """Return whether a host, as it is written, is this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(variable: str, value: str) -> Proxy:
    """Return the proxy that a variable names; without a scheme it is plain http."""
    allowed = "allowed: an address such as http://proxy.example.com:3128"
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{variable}: is not an address; {allowed}") from error
    if parts.scheme not in _PROXY_SCHEMES:
        raise ConfigError(f"{variable}: is a {parts.scheme}:// proxy; {allowed}")
    if not parts.hostname:
        raise ConfigError(f"{variable}: is not an address; {allowed}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(
        url=f"{parts.scheme}://{host}" + ("" if port is None else f":{port}"),
        variable=variable,
        user=user,
        password=unquote(parts.password or ""),
    )
