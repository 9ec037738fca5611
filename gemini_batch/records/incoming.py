"""`IncomingImage`: an image that has arrived, and has no row yet."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IncomingImage:
    """One image of an answer, in a staged file.

    `head` is its first 64 bytes, which show the format. `mime_type` is declared by the answer, ""
    until it is whole.
    """

    file: str
    size_bytes: int
    sha256: str
    head: bytes
    mime_type: str = ""
