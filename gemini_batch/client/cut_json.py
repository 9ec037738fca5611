"""Completion of JSON that breaks off, or is damaged from some place on. Pure."""

import re
from dataclasses import dataclass

_STRING = rb'"[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\]*+)*+"'
_NUMBER = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?"
_TOKEN = re.compile(
    rb"[ \t\r\n]*+(?:(?P<open>[{\[])|(?P<close>[}\]])|(?P<comma>,)|(?P<colon>:)|(?P<string>%b)|"
    # A number at the very end may have more digits.
    rb"(?P<scalar>(?:true|false|null|%b)(?=[ \t\r\n,}\]])))" % (_STRING, _NUMBER)
)
_CLOSER_OF = {b"{": b"}", b"[": b"]"}
# Real answers have some hundred; the event loop stands still while they are looked at.
_MAX_TOKENS = 100_000
_MAX_DEPTH = 200
# Kinds of tokens that may come: a value, a key, a colon, and what comes after a value.
_VALUE, _KEY = frozenset(("open", "string", "scalar")), frozenset(("string",))
_FIRST_VALUE, _FIRST_KEY = _VALUE | {"close"}, _KEY | {"close"}
_COLON, _BEHIND = frozenset(("colon",)), frozenset(("comma", "close"))


@dataclass(frozen=True, slots=True)
class Completed:
    """JSON up to its last whole value, and the brackets that close what is open there."""

    kept: bytes
    closers: bytes

    @property
    def body(self) -> bytes:
        """The JSON, closed."""
        return self.kept + self.closers


def completed(body: bytes) -> Completed:
    """Complete JSON that breaks off, or drop what comes after its first mistake."""
    closers, end, at_end = bytearray(), 0, b""  # `at_end` closes what is open at `end`
    pos, may = 0, _VALUE
    for _ in range(_MAX_TOKENS):
        found = _TOKEN.match(body, pos)
        kind = (found and found.lastgroup) or ""
        if found is None or kind not in may or len(closers) > _MAX_DEPTH:
            break
        if kind == "open":
            closers += _CLOSER_OF[found["open"]]
        elif kind == "close":
            if closers[-1:] != found["close"]:
                break
            closers.pop()
        pos, may = found.end(), _what_follows(kind, may, in_object=closers.endswith(b"}"))
        if kind == "open" or may is _BEHIND:
            end, at_end = pos, bytes(reversed(closers))
        if not closers:
            break
    return Completed(body[:end], at_end)


def _what_follows(kind: str, before: frozenset[str], *, in_object: bool) -> frozenset[str]:
    """Return the kinds of tokens that may follow one, which itself was one of `before`."""
    match kind:
        case "open":
            return _FIRST_KEY if in_object else _FIRST_VALUE
        case "comma":
            return _KEY if in_object else _VALUE
        case "colon":
            return _VALUE
        case "string" if before in (_KEY, _FIRST_KEY):
            return _COLON
        case _:
            return _BEHIND
