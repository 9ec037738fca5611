"""The part of a manifest that a run is for: calls of some ids, the first ones, or both."""

import re
from collections.abc import Iterable
from fnmatch import translate

from gemini_batch.errors import ConfigError
from gemini_batch.records import ids
from gemini_batch.wording import shown

_has_wildcards = re.compile(r"[*?\[]").search


class Part:
    """Narrows the calls that a run sends; it never adds one.

    The calls are asked for in the order of the manifest.
    """

    def __init__(self, only: Iterable[str], limit: int | None, *, flag: str = "--only") -> None:
        """Create a part of the calls with an id in `only`, and of these the first `limit`.

        An entry of `only` is an id, or a glob; none is all calls. `flag` is the name of `only` in
        errors.
        """
        self._flag = flag
        texts = dict.fromkeys(map(ids.normal, only))
        self._is_named = dict.fromkeys(texts, False)
        self._globs = {text: re.compile(translate(text)) for text in texts if _has_wildcards(text)}
        self._by_glob: set[str] = set()
        self._left = limit

    def names(self, call_id: str) -> bool:
        """Return whether a call has one of the ids."""
        if not self._is_named:
            return True
        if call_id in self._is_named:
            self._is_named[call_id] = True
            return True
        found = [text for text, glob in self._globs.items() if glob.fullmatch(call_id)]
        self._by_glob.update(found)
        return bool(found)

    def takes_one(self) -> bool:
        """Take the next call that is not done, unless `limit` calls were taken."""
        if self._left is None:
            return True
        self._left = max(-1, self._left - 1)
        return self._left >= 0

    def give_back(self, calls: int) -> None:
        """Take `calls` more calls: those that were taken can't be sent."""
        if self._left is not None:
            self._left = max(0, self._left) + calls

    @property
    def has_limit(self) -> bool:
        """True if only the first calls are taken."""
        return self._left is not None

    @property
    def is_full(self) -> bool:
        """True once no further call is taken."""
        return self._left is not None and self._left <= 0

    def check(self, source: str) -> None:
        """Check that each id and glob names a call, once all calls of a manifest were asked for.

        Raises:
            ConfigError: One names no call, or as an id one and as a glob others.
        """
        for text, is_named in self._is_named.items():
            if is_named and text in self._by_glob:
                one = shown(text.replace("[", "[[]"))
                raise ConfigError(
                    f"{self._flag}: {shown(text)} is an id, and as a glob names others: write {one}"
                )
            if not is_named and text not in self._by_glob:
                advice = "ids are those of calls, such as robot and robot.2; a glob has * or ?"
                raise ConfigError(f"{self._flag}: {source} has no call {shown(text)}: {advice}")
