"""Tokens of the Google Cloud login, by Application Default Credentials. Blocks: use it in a thread.

google-auth finds the login and speaks its protocols; its requests are made on the event loop, by
the proxy and with the certificates of all others. Its errors become failures of an attempt.
"""

import asyncio
import ipaddress
import os
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import google.auth
from google.auth import credentials, exceptions, transport

from gemini_batch.client.connection_errors import connection_failure
from gemini_batch.client.connector import Connector
from gemini_batch.client.credentials import Token
from gemini_batch.client.proxies import proxy_address
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.client.untrusted_json import one_line
from gemini_batch.config import google_login
from gemini_batch.config.network import is_loopback, proxy_for, trusted_certificates
from gemini_batch.records import Failure, FailureKind

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
ADVICE = (
    "log in with `gcloud auth application-default login`, or name the key file of a service "
    f"account in {google_login.FILE_VARIABLE}"
)
_TIMEOUT_S = 20.0
_CONNECT_S = 10.0
_MAX_ANSWER_BYTES = 1 << 20
# Statuses of a server that may answer later.
_LATER = frozenset({408, 429, 500, 502, 503, 504})
# What a request for a token proves itself with.
_PROOFS = ("assertion", "refresh_token", "client_secret", "subject_token", "actor_token")
# Servers of the machine itself, in Google Cloud and in AWS; a proxy would reach its own.
_METADATA_HOSTS = frozenset({"metadata.google.internal", "metadata", "fd00:ec2::254"})
_METADATA_VARIABLES = ("GCE_METADATA_HOST", "GCE_METADATA_ROOT", "GCE_METADATA_IP")


class GoogleTokens:
    """Gets a token at each call, in another thread than that of the event loop."""

    def __init__(self, certificates: ssl.SSLContext | None = None) -> None:
        """Use the running event loop; `certificates` are those to trust, if not the system's."""
        self._loop = asyncio.get_running_loop()
        self._certificates = certificates
        self._credentials: credentials.Credentials | None = None

    def __call__(self) -> Token | Failure:
        """Return a new token, or why there is none."""
        request = _Request(self._loop, self._certificates)
        try:
            if self._credentials is None:
                self._credentials = _found(request)
            self._credentials.refresh(request)  # type: ignore[no-untyped-call]
            return _token(self._credentials)
        except exceptions.DefaultCredentialsError as error:
            return _refused(_text(error), request)
        except Exception as error:  # noqa: BLE001 # of what files and servers gave to the library
            return request.failure or _refused(_text(error), request)


def _found(request: "_Request") -> credentials.Credentials:
    """Return the login of the environment.

    Raises:
        GoogleAuthError: There is none, or its file can't be used.
        OSError: The file can't be read.
    """
    path = google_login.credentials_file()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice for programmers, and on quotas of a project
        # A file alone: with it `default` asks gcloud, or Google, for the name of a project.
        found, _ = (
            google.auth.default(request=request)
            if path is None
            else google.auth.load_credentials_from_file(path)  # type: ignore[no-untyped-call]
        )
    scoped = credentials.with_scopes_if_required(found, SCOPES)  # type: ignore[no-untyped-call]
    assert isinstance(scoped, credentials.Credentials)  # noqa: S101 - for mypy
    return scoped


def _token(found: credentials.Credentials) -> Token:
    """Return the token of credentials that were refreshed."""
    headers: dict[str, str] = {}
    found.apply(headers)  # type: ignore[no-untyped-call]
    token = str(found.token)
    google_login.issued.append(token)
    now = datetime.now(UTC).replace(tzinfo=None)  # as the library has it
    lifetime_s = (found.expiry - now).total_seconds() if found.expiry else inf
    return Token(headers, max(0.0, lifetime_s), KeyRedactor(token))


def _refused(text: str, request: "_Request") -> Failure:
    """Return the failure of a login that the user has to correct."""
    text = one_line(request.redacted(text)).rstrip(".")
    message = f"no Google Cloud login: {text}; {ADVICE}"
    return Failure(FailureKind.LOGIN, message, may_be_billed=False)


def _text(error: Exception) -> str:
    """Return the library's message, which it may follow with the whole answer."""
    if isinstance(error, exceptions.GoogleAuthError) and error.args:
        return str(error.args[0])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    path = google_login.credentials_file()
    source = "the answer of its server" if path is None else f"{path}, or what its server answers,"
    return f"{source} can't be used ({type(error).__name__}: {error})"


@dataclass(frozen=True, slots=True)
class _Response(transport.Response):
    """An answer, as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _Request(transport.Request):
    """Makes the requests of google-auth on an event loop, and waits for them in its thread.

    Attributes:
        failure: Why the last request brought no answer, or one that the next may not bring.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, certificates: ssl.SSLContext | None
    ) -> None:
        self.failure: Failure | None = None
        self._loop = loop
        self._certificates = certificates
        self._proofs: list[str] = []

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> _Response:
        """Make a request.

        Raises:
            TransportError: There is no answer, or it must not be sent.
        """
        self.failure = None
        self._note_proofs(body, headers or {})
        parts = urlsplit(url)
        host = parts.hostname or ""
        is_of_machine = is_loopback(host) or _is_metadata(host)
        if parts.scheme != "https" and not is_of_machine:
            message = f"{host} is asked by plain http, which shows the login"
            raise exceptions.TransportError(message)  # type: ignore[no-untyped-call]
        proxy = None if is_of_machine else proxy_for(url)
        request = self._request(
            method,
            url,
            data=body,
            headers=headers,
            proxy=proxy_address(proxy),
            ssl=_with_client(kwargs["cert"]) if kwargs.get("cert") else self._certificates or True,
            timeout=aiohttp.ClientTimeout(
                total=min(timeout or _TIMEOUT_S, _TIMEOUT_S), connect=_CONNECT_S
            ),
        )
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        try:
            response = asyncio.run_coroutine_threadsafe(request, self._loop).result()
        except (aiohttp.ClientError, OSError) as error:
            kind, message = connection_failure(error, origin, proxy)
            if not str(error):
                message = f"{origin} does not answer the login within {_TIMEOUT_S:g} s"
            self.failure = Failure(kind, self.redacted(message), may_be_billed=False)
            raise exceptions.TransportError(message) from error  # type: ignore[no-untyped-call]
        if response.status in _LATER:
            message = f"{origin} answers the login with {response.status}"
            self.failure = Failure(FailureKind.UNREACHABLE, message, may_be_billed=False)
        return response

    async def _request(self, method: str, url: str, **options: Any) -> _Response:
        async with (
            aiohttp.ClientSession(connector=Connector()) as session,
            session.request(method, url, allow_redirects=False, **options) as response,
        ):
            data = await response.content.read(_MAX_ANSWER_BYTES)
            while more := await response.content.read(_MAX_ANSWER_BYTES - len(data)):
                data += more
            return _Response(response.status, response.headers, data)

    def redacted(self, text: str) -> str:
        """Return a text without what the requests proved themselves with."""
        for proof in self._proofs:
            text = KeyRedactor(proof).redact_text(text)
        return text

    def _note_proofs(self, body: bytes | str | None, headers: Mapping[str, str]) -> None:
        form = parse_qs(body.decode(errors="replace") if isinstance(body, bytes) else body or "")
        self._proofs += [value for name in _PROOFS for value in form.get(name, ())]
        for name, value in headers.items():
            if name.lower() == "authorization":
                self._proofs.append(value.partition(" ")[2])


def _with_client(certificate: tuple[str, str]) -> ssl.SSLContext:
    """Return the trusted certificates with that of the client: its file, and that of its key."""
    context = trusted_certificates() or ssl.create_default_context()
    context.load_cert_chain(*certificate)
    return context


def _is_metadata(host: str) -> bool:
    """Return whether a host is the metadata server of a machine in a cloud."""
    named = (os.environ.get(name, "").partition(":")[0] for name in _METADATA_VARIABLES)
    if host in _METADATA_HOSTS or host in filter(None, named):
        return True
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False
