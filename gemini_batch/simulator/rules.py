"""One `[[rules]]` entry of a file of faults."""

import re
from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Rule:
    """A fault and the requests that get it; `seen` counts the requests that matched."""

    fault: str
    match: str = ""
    model: str | None = None
    skip: int = 0
    times: int | None = None
    from_s: float = 0.0
    until_s: float | None = None
    seen: int = 0

    def applies(self, text: str, model: str, offset_s: float) -> bool:
        """Return whether a request gets the fault; count it if it matches.

        Args:
            text: Its prompt, or the name that it has.
            model: The model's id.
            offset_s: Its arrival, in seconds since the start.
        """
        if self.model not in (None, model) or not re.search(self.match, text):
            return False
        if offset_s < self.from_s or (self.until_s is not None and offset_s >= self.until_s):
            return False
        self.seen += 1
        return self.seen > self.skip and (self.times is None or self.seen <= self.skip + self.times)
