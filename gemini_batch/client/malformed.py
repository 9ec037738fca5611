"""The error of an answer that can't be used, and limits of one answer."""

from collections.abc import Callable
from dataclasses import dataclass

from gemini_batch.client.untrusted_json import one_line
from gemini_batch.records import FailureKind

MAX_BODY_BYTES = 256 * 2**20
_SHOWN_CHARS = 100
# What is looked through for the key before it is cut to that; a key in any spelling is shorter.
_QUOTED_BYTES = 4_096
WEB_PAGE = (
    "the answer is a web page, not JSON: is a login or a proxy in the way, or is the address wrong?"
)


class MalformedAnswerError(ValueError):
    """The answer can't be used. `kind` is `TOO_LARGE` past a limit, else mostly `MALFORMED`.

    The message ends with the start of what is `quoted`.
    """

    def __init__(
        self, message: str, kind: FailureKind = FailureKind.MALFORMED, quoted: str = ""
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self._quoted = quoted

    def __str__(self) -> str:
        return self.redacted(lambda text: text)

    def redacted(self, redact: Callable[[str], str]) -> str:
        """Return the message with what it quotes, redacted before it is cut."""
        message = super().__str__()
        return f"{message} {redact(self._quoted)[:_SHOWN_CHARS]!r}" if self._quoted else message


@dataclass(frozen=True, slots=True)
class ExtractorLimits:
    """Limits of one answer, for a server that sends without end.

    Attributes:
        envelope_bytes: Everything but images, and strings that are left out.
        body_bytes: Of a 4K image, about 30 MB is base64; signatures are as large, on each part.
        images: There is one and a few drafts. Each is a file on disk.
        depth: Nested objects and arrays. Real answers have about ten; orjson refuses 1,024.
    """

    envelope_bytes: int = 8 * 2**20
    body_bytes: int = MAX_BODY_BYTES
    images: int = 64
    depth: int = 200


def check_limit(size: int, limit: int, what: str) -> None:
    """Raise MalformedAnswerError if there is more than `limit` of something."""
    if size > limit:
        raise MalformedAnswerError(
            f"the answer has more than {limit:,} {what}", FailureKind.TOO_LARGE
        )


def not_json(start: bytes) -> MalformedAnswerError:
    """Return the error of a body that begins so."""
    kind = FailureKind.NOT_AN_ANSWER
    if start.startswith(b"<"):
        return MalformedAnswerError(WEB_PAGE, kind)
    quoted = one_line(start[:_QUOTED_BYTES].decode(errors="replace"))
    return MalformedAnswerError("the answer is not JSON: it begins with", kind, quoted)
