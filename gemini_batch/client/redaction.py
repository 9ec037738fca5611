"""Redaction of the API key wherever a server echoes it."""

import re

# Google's keys have 39 characters and more; those of proxies may be short. A shorter text, or a
# short one of letters only, is a test's placeholder, and may be a word of an answer.
MIN_SECRET_CHARS, MIN_SECRET_LETTERS = 8, 16


class KeyRedactor:
    """Finds a key as it is, and escaped for JSON, a URL or HTML."""

    def __init__(self, key: str) -> None:
        is_secret = len(key) >= (MIN_SECRET_LETTERS if key.isalpha() else MIN_SECRET_CHARS)
        self._pattern = re.compile("".join(map(_spellings, key)).encode()) if is_secret else None
        # The pattern takes 20 ms a megabyte, and most answers contain none of these.
        self._needed = (key.encode(), b"\\", b"%", b"&")

    def redact(self, body: bytes) -> bytes:
        """Return the bytes with `[key]` instead of each key."""
        if self._pattern is None or not any(piece in body for piece in self._needed):
            return body
        return self._pattern.sub(b"[key]", body)


def _spellings(character: str) -> str:
    """Return a pattern for a character as it is, and escaped up to twice."""
    # Every repetition has a bound, so that no text makes this slow.
    plain, number, digits = re.escape(character), ord(character), f"{ord(character):02x}"
    return (
        rf"(?:{plain}|\\{{1,4}}(?:{plain}|u00(?i:{digits}))"
        rf"|%(?:25){{0,2}}(?i:{digits})|&#(?:0{{0,4}}{number}|[xX]0{{0,4}}(?i:{digits}));)"
    )
