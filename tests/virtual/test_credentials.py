"""Tokens of a login: one renewal at a time, before their end, and for all who wait."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import inf
from typing import TypeVar

import pytest

from gemini_batch.client.credentials import RENEW_BEFORE_S, Token, TokenCredentials
from gemini_batch.client.redaction import KeyRedactor
from gemini_batch.clock import Clock
from gemini_batch.records import Failure, FailureKind
from tests.virtual.clock import run

T = TypeVar("T")

GONE = Failure(FailureKind.UNREACHABLE, "no connection to the login", may_be_billed=False)


@dataclass
class Desk:
    """Hands out tokens; each takes two seconds.

    Attributes:
        lives_s: Lifetimes of the tokens, or failures; the last one again and again.
        asked_s: When a token was asked for.
    """

    clock: Clock
    lives_s: list[float | Failure] = field(default_factory=lambda: [3600.0])
    asked_s: list[float] = field(default_factory=list)
    most: int = 0
    _now: int = 0

    def credentials(self) -> TokenCredentials:
        """Return the credentials of a run."""
        return TokenCredentials(self._fetch, replace(self.clock, run_blocking=self._in_thread))

    def _fetch(self) -> Token | Failure:
        number = len(self.asked_s)
        life = self.lives_s[min(number, len(self.lives_s)) - 1]
        if isinstance(life, Failure):
            return life
        token = f"ya29.token-{number:04}-of-a-login"
        return Token({"Authorization": f"Bearer {token}"}, life, KeyRedactor(token))

    async def _in_thread(self, function: Callable[[], T], /) -> T:
        self.asked_s.append(round(self.clock.steady_s(), 1))
        self._now += 1
        self.most = max(self.most, self._now)
        await asyncio.sleep(2.0)
        self._now -= 1
        return function()


async def token(credentials: TokenCredentials) -> str | FailureKind:
    """Return the number of the token that a request would be sent with."""
    headers = await credentials.headers()
    return headers.kind if isinstance(headers, Failure) else headers["Authorization"][18:22]


async def until(clock: Clock, at_s: float) -> None:
    """Sleep until a moment."""
    await asyncio.sleep(at_s - clock.steady_s())


def test_all_who_start_wait_for_one_token() -> None:
    """A hundred calls ask for a token once."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        got = await asyncio.gather(*(token(credentials) for _ in range(100)))
        assert (set(got), desk.asked_s) == ({"0001"}, [0.0])

    run(scenario)


def test_a_token_is_renewed_four_minutes_before_its_end_and_nobody_waits() -> None:
    """The old one is sent until the new one is there; then the new one for its own hour."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        await token(credentials)
        begun_s = clock.steady_s()
        await until(clock, begun_s + 3600 - RENEW_BEFORE_S - 1)
        assert await token(credentials) == "0001"
        await asyncio.sleep(0)  # a renewal would begin
        assert len(desk.asked_s) == 1
        await until(clock, begun_s + 3600 - RENEW_BEFORE_S)
        before_s = clock.steady_s()
        assert {await token(credentials) for _ in range(8)} == {"0001"}
        assert clock.steady_s() == pytest.approx(before_s, abs=0.01)
        await asyncio.sleep(2.5)
        assert await token(credentials) == "0002"
        await until(clock, before_s + 3300)
        assert await token(credentials) == "0002"
        assert (len(desk.asked_s), desk.most) == (2, 1)

    run(scenario)


@pytest.mark.parametrize(("life_s", "renewed_at_s"), [(60.0, 30.0), (300.0, 150.0), (480.0, 240.0)])
def test_a_short_token_is_renewed_at_half_of_its_life(life_s: float, renewed_at_s: float) -> None:
    """Else it would be asked for with each request."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock, [life_s])
        credentials = desk.credentials()
        await token(credentials)
        begun_s = clock.steady_s()
        await until(clock, begun_s + renewed_at_s - 0.5)
        await token(credentials)
        await asyncio.sleep(0)  # a renewal would begin
        assert len(desk.asked_s) == 1
        await asyncio.sleep(0.5)
        await token(credentials)
        await asyncio.sleep(0)
        assert len(desk.asked_s) == 2
        await asyncio.sleep(3)
        await credentials.close()

    run(scenario)


def test_after_its_end_all_wait_for_the_next_token() -> None:
    """As after a night of a laptop: no request leaves with a token that is over."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        await token(credentials)
        await asyncio.sleep(30_000)
        got = await asyncio.gather(*(token(credentials) for _ in range(8)))
        assert (set(got), len(desk.asked_s)) == ({"0002"}, 2)

    run(scenario)


def test_a_token_without_an_end_is_never_renewed() -> None:
    """Its end is not known; the server says when it is over."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock, [inf])
        credentials = desk.credentials()
        await token(credentials)
        await asyncio.sleep(100_000)
        assert (await token(credentials), len(desk.asked_s)) == ("0001", 1)

    run(scenario)


def test_who_is_cancelled_does_not_cancel_the_others() -> None:
    """The first one, who began the renewal, gives up; the others get its token."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        tasks = [asyncio.create_task(token(credentials)) for _ in range(3)]
        await asyncio.sleep(1)
        tasks[0].cancel()
        got = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(got[0], asyncio.CancelledError)
        assert (got[1:], desk.asked_s) == (["0001"] * 2, [0.0])

    run(scenario)


def test_a_refused_token_is_replaced_once_for_all() -> None:
    """Eight calls whose token the server does not take any more: one renewal; a late one costs no second."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        old = await credentials.headers()
        assert not isinstance(old, Failure)

        async def again() -> str | FailureKind:
            assert credentials.refuse(old)
            return await token(credentials)

        got = await asyncio.gather(*(again() for _ in range(8)))
        await asyncio.sleep(100)
        got.append(await again())
        assert (set(got), len(desk.asked_s)) == ({"0002"}, 2)

    run(scenario)


def test_trouble_of_the_way_is_no_reason_to_drop_a_valid_token() -> None:
    """It is asked for again every 15 s; the calls go on with the old one, and fail only after its end."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock, [3600.0, GONE])
        credentials = desk.credentials()
        await token(credentials)
        begun_s = clock.steady_s()
        await until(clock, begun_s + 3400)
        for _ in range(40):
            assert await token(credentials) == "0001"
            await asyncio.sleep(1)
        assert 3 <= len(desk.asked_s) - 1 <= 4
        await until(clock, begun_s + 3600)
        assert await token(credentials) is FailureKind.UNREACHABLE
        desk.lives_s = [3600.0]
        assert await token(credentials) == f"{len(desk.asked_s):04}"

    run(scenario)


@pytest.mark.parametrize("kind", [FailureKind.LOGIN, FailureKind.CERTIFICATE, FailureKind.PROXY])
def test_a_login_that_is_refused_is_not_asked_again(kind: FailureKind) -> None:
    """The run stops by the first; the others, which wait, must not hammer."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock, [Failure(kind, "no way to log in", may_be_billed=False)])
        credentials = desk.credentials()
        assert await token(credentials) is kind
        got = await asyncio.gather(*(token(credentials) for _ in range(8)))
        assert (set(got), len(desk.asked_s)) == ({kind}, 1)

    run(scenario)


def test_the_end_of_a_run_waits_for_no_token() -> None:
    """Who waits is told that it is cancelled."""

    async def scenario(clock: Clock) -> None:
        desk = Desk(clock)
        credentials = desk.credentials()
        waiting = asyncio.create_task(token(credentials))
        await asyncio.sleep(1)
        await credentials.close()
        assert clock.steady_s() == pytest.approx(1.0, abs=0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await credentials.close()

    run(scenario)


def test_the_newest_tokens_are_redacted() -> None:
    """Answers to requests with the tokens before may still arrive, and quote them."""

    async def scenario(clock: Clock) -> None:
        credentials = Desk(clock, [10.0]).credentials()
        for _ in range(5):
            await token(credentials)
            await asyncio.sleep(20)
        text = " ".join(f"ya29.token-{number:04}-of-a-login" for number in range(1, 6))
        left = credentials.redactor.redact_text(text)
        assert left == "ya29.token-0001-of-a-login ya29.token-0002-of-a-login [key] [key] [key]"
        assert b"token-0005" not in credentials.redactor.redact(text.encode())

    run(scenario)
