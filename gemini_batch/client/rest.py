"""Small requests to the API next to `generateContent`, and their answers as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gemini_batch.clock import Clock
from gemini_batch.config import Settings
from gemini_batch.records import Answer, ApiError, Failure


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole answer of any status; its headers may hold a secret."""

    answer: Answer
    headers: Mapping[str, str] = field(repr=False)


class RestSession:
    """Connections to one server for `Files` and `Batches`. Use it as an async context manager.

    The key goes to this server alone, and is redacted wherever the server repeats it.
    """

    def __init__(self, config: Settings, base_url: str, clock: Clock) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        raise NotImplementedError

    async def __aexit__(self, *exc_info: object) -> None:
        raise NotImplementedError

    async def request(
        self, method: str, url: str, value: Any = None, headers: Mapping[str, str] | None = None
    ) -> RestAnswer | Failure:
        """Send a request once; `value` is its JSON. No redirect is followed.

        Cancellation: the server may have received the request.
        """
        raise NotImplementedError


def parsed(answer: RestAnswer | Failure) -> dict[str, Any] | ApiError | Failure:
    """Return the JSON object of an answer, or why it has none; an error in a 200 is an error."""
    raise NotImplementedError
