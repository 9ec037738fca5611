"""The key, blacked out wherever a server echoes it."""

import re

# Google's keys have 39 characters and more, those of proxies may be short. What is shorter than this, or nothing but letters and not long,
# is a word that stands in for a key in a test; and words stand in answers.
MIN_SECRET_CHARS, MIN_SECRET_LETTERS = 8, 16


class KeyRedactor:
    """Finds a key as it is, and as JSON, a URL or HTML would write it."""

    def __init__(self, key: str) -> None:
        self._pattern = _spellings(key) if _is_secret(key) else None
        # The pattern takes 20 ms a megabyte, and most answers hold none of these.
        self._suspicious = (key.encode(), b"\\", b"%", b"&")

    def redact(self, body: bytes) -> bytes:
        """Return the bytes with `[key]` in the place of each key."""
        if self._pattern is None or not any(mark in body for mark in self._suspicious):
            return body
        return self._pattern.sub(b"[key]", body)


def _is_secret(key: str) -> bool:
    return len(key) >= (MIN_SECRET_LETTERS if key.isalpha() else MIN_SECRET_CHARS)


def _spellings(key: str) -> re.Pattern[bytes]:
    """Return what finds the key as it is, and with any of its characters as JSON, a URL or HTML may write them, twice over too."""
    # Every count has a bound, so that no text makes this slow.
    characters = (
        rf"(?:{re.escape(character)}|\\{{1,4}}(?:u00{_hex(character)}|{re.escape(character)})"
        rf"|%(?:25){{0,2}}{_hex(character)}|&#(?:0{{0,4}}{ord(character)}|[xX]0{{0,4}}{_hex(character)});)"
        for character in key
    )
    return re.compile("".join(characters).encode())


def _hex(character: str) -> str:
    """Return a pattern for the character's two hex digits, in both cases."""
    return "".join(
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit
        for digit in f"{ord(character):02x}"
    )
