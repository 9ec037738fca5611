"""A worker's part of the calls of a manifest."""

import re
from dataclasses import dataclass
from typing import Self
from zlib import crc32

MAX_SHARDS = 100_000
_SPELLING = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """The calls of worker `index`, from 1, of `count` workers."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard of a text such as `3/16`; raise ValueError if it names none."""
        found = _SPELLING.fullmatch(text)
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count <= MAX_SHARDS:
            raise ValueError(text)
        return cls(index, count)

    def owns(self, call_id: str) -> bool:
        """Return whether a call is of this part; each process and machine decides alike."""
        return owner(call_id, self.count) == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def owner(name: str, count: int) -> int:
    """Return which of `count` workers, from 1, something of this name belongs to."""
    return 1 + crc32(name.encode(errors="surrogatepass")) % count
