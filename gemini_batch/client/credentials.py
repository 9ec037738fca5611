"""Credentials of requests: an API key, or tokens of a Google Cloud login, which are renewed."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Protocol

from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.clock import Clock
from gemini_batch.records import ApiError, Failure, FailureKind

# The metadata server of Google Cloud hands out the same token until then:
# google-auth 2.63, REFRESH_THRESHOLD (2026-11-30).
RENEW_BEFORE_S = 240.0
# Pause after a renewal that failed while the token is still valid.
RETRY_S = 15.0
# Answers that are under way may still show an earlier one.
_KNOWN_TOKENS = 3
EXPIRED = "ACCESS_TOKEN_EXPIRED"
"""`google.rpc.ErrorInfo.reason` of a token that has to be renewed:
https://cloud.google.com/apis/design/errors (2026-11-30)."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token, in the headers that carry it.

    Attributes:
        lifetime_s: Seconds that it is valid; infinity if that is not known.
    """

    headers: Mapping[str, str]
    lifetime_s: float
    redactor: KeyRedactor


class Redactor(Protocol):
    """Removes what must not be seen from bodies and texts."""

    def redact(self, body: bytes, /) -> bytes:
        """Return a body without it."""

    def redact_text(self, text: str, /) -> str:
        """Return a text without it."""


class Credentials(Protocol):
    """The boundary between the client and the way in which it is allowed to send."""

    @property
    def redactor(self) -> Redactor:
        """Finds in an answer what its request was allowed by."""

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the headers for a request that is sent now, or why there are none.

        Cancellation: safe.
        """

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Note that the server no longer accepts these; return whether others may be."""

    async def close(self) -> None:
        """End what still runs."""


class KeyCredentials:
    """An API key in a header; with `in_header=False` it is in the URL."""

    def __init__(self, key: str, *, in_header: bool = True) -> None:
        self.redactor = KeyRedactor(key)
        self._headers = {"x-goog-api-key": key} if in_header else {}

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the header; see `Credentials.headers`."""
        return self._headers

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Return false: there is one key."""
        return False

    async def close(self) -> None:
        """Do nothing."""


class TokenRedactor:
    """Finds the newest tokens."""

    def __init__(self) -> None:
        self._known: tuple[KeyRedactor, ...] = ()

    def learn(self, redactor: KeyRedactor) -> None:
        """Find one more token, and forget the oldest."""
        self._known = (*self._known[1 - _KNOWN_TOKENS :], redactor)

    def redact(self, body: bytes) -> bytes:
        """Return a body without them."""
        for each in self._known:
            body = each.redact(body)
        return body

    def redact_text(self, text: str) -> str:
        """Return a text without them."""
        for each in self._known:
            text = each.redact_text(text)
        return text


class TokenCredentials:
    """Tokens of a login, got in a thread: one at a time, for all who wait for it.

    A token is renewed `RENEW_BEFORE_S` before its end, or at half of a shorter life. Until its end
    no call waits for that: between a permit and its request there is no time for it.
    """

    def __init__(self, fetch: Callable[[], Token | Failure], clock: Clock) -> None:
        self.redactor = TokenRedactor()
        self._fetch = fetch
        self._clock = clock
        self._token: Token | None = None
        self._renew_at_s = self._ends_at_s = inf
        self._refusal: Failure | None = None
        self._renewal: asyncio.Task[Token | Failure] | None = None

    async def headers(self) -> Mapping[str, str] | Failure:
        """Return the headers with a token that is valid now; see `Credentials.headers`."""
        now_s = self._clock.steady_s()
        if self._token is None or now_s >= self._ends_at_s:
            if self._refusal is not None:
                return self._refusal
            got = await asyncio.shield(self._renewed())
            return got if isinstance(got, Failure) else got.headers
        if now_s >= self._renew_at_s and self._refusal is None:
            self._renewed()
        return self._token.headers

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Use this token no more; see `Credentials.refuse`."""
        if self._token is not None and self._token.headers is headers:
            self._token = None
        return True

    async def close(self) -> None:
        """Stop waiting for a token; its thread ends by itself."""
        if (renewal := self._renewal) is not None:
            renewal.cancel()
            await asyncio.wait([renewal])

    def _renewed(self) -> "asyncio.Task[Token | Failure]":
        """Return the renewal that is under way, or a new one."""
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(), name="login")
        return self._renewal

    async def _renew(self) -> Token | Failure:
        try:
            got = await self._clock.run_blocking(self._fetch)
        finally:
            self._renewal = None
        now_s = self._clock.steady_s()
        if isinstance(got, Failure):
            self._renew_at_s = now_s + RETRY_S
            # All but an outage stops the run, which must not ask again for each call.
            self._refusal = None if got.kind is FailureKind.UNREACHABLE else got
            return got
        self.redactor.learn(got.redactor)
        self._token = got
        self._ends_at_s = now_s + got.lifetime_s
        self._renew_at_s = self._ends_at_s - min(RENEW_BEFORE_S, got.lifetime_s / 2)
        return got


def is_expired(error: ApiError) -> bool:
    """Return whether an error says that a token is no longer valid, or gives no reason.

    A gateway may leave out the reason. The request was refused, and not billed.
    """
    return error.http_status == 401 and error.reason in (None, EXPIRED)
