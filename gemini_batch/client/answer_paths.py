"""Places in an answer whose strings are taken out of it while it arrives. Pure.

The keys are those of GenerateContentResponse by their JSON names and by their proto names: parsers
of proto JSON accept both (https://protobuf.dev/programming-guides/json/, 2026-11-29).
"""

import re
from contextlib import suppress
from enum import Enum, auto
from typing import TypeAlias

from gemini_batch.client.json_strings import unescaped
from gemini_batch.client.malformed import MalformedAnswerError, check_limit


class Leaf(Enum):
    """Kinds of strings: an image's base64, and a text that may contain data URIs."""

    IMAGE = auto()
    TEXT = auto()


Node: TypeAlias = "dict[bytes, Node] | list[Node] | Leaf"
"""A dict has the keys of an object, a list the node of an array's items."""

_BLOB: dict[bytes, Node] = {b"data": Leaf.IMAGE}
_FILE: dict[bytes, Node] = {b"fileUri": Leaf.TEXT, b"file_uri": Leaf.TEXT}
_PART: dict[bytes, Node] = {
    b"inlineData": _BLOB,
    b"inline_data": _BLOB,
    b"text": Leaf.TEXT,
    b"fileData": _FILE,
    b"file_data": _FILE,
}
_ANSWER: Node = {b"candidates": [{b"content": {b"parts": [_PART]}}]}
_KEYS = (b"candidates", b"content", b"parts", *_PART, *_BLOB, *_FILE)

_WS = rb"[ \t\n\r]*+"
_OTHER_KEY = rb'(?!(?:%b)")[^"\\]{0,64}+' % b"|".join(_KEYS)


def _nested(levels: int) -> bytes:
    """Return a pattern of an object or array without escapes that has `levels` levels."""
    inner = rb'[^"\\{}\[\]]++|"[^"\\]*+"'
    if levels:
        inner += b"|" + _nested(levels - 1)
    return rb"\{(?:%b)*+\}|\[(?:%b)*+\]" % (inner, inner)


# The next structural mark: a short string without escapes, as nearly all but the images are, with
# the comma before it, and the colon and the bracket after it; or closing brackets; or a single
# byte. In front of it are members whose keys are in no path, with values that are plain: few levels
# of them, so that a byte is looked at few times where a value continues in the next chunk. `{}+`
# and `*+` never backtrack. The run in front is part of the pattern: a search would try each of its
# bytes, and take three times as long.
_FRONT = rb'[^"{}\[\],:]*+'
_PLAIN = rb'"[^"\\]*+"|[-0-9a-z]%b|%b' % (_FRONT, _nested(2))
_MEMBER = rb'%b,?%b"%b"%b:%b(?:%b)' % (_FRONT, _WS, _OTHER_KEY, _WS, _WS, _PLAIN)
_STRING = rb'(,)?%b"([^"\\]{0,64}+)"(?:%b(:)(?:%b([{\[]))?)?' % (_WS, _WS, _WS)
_ON_PATH = re.compile(rb'(?:%b)*+%b(?:%b|([}\]]++)|(["{\[,:]))' % (_MEMBER, _FRONT, _STRING))
# Off the path, plain strings are skipped.
_OFF_PATH = re.compile(rb'(?:[^"\\{}\[\]]++|"[^"\\]*+")*+' + _ON_PATH.pattern)

Paths: TypeAlias = dict[bytes, Node]
"""The nodes of a document, by its last bracket."""
# Streaming methods wrap their answers in an array.
ANSWER: Paths = {b"}": _ANSWER, b"]": [_ANSWER]}
"""An answer of `generateContent`."""
LINE: Paths = {b"}": {b"response": _ANSWER}}
"""A line of a batch's results."""


class Place:
    """The place in an answer where its next string begins.

    Attributes:
        at_key: In an object, the string would be a key.
        matched: The node of the value after the last key; None off the paths.
        node: The node of the innermost object or array; None off the paths.
        mark: The pattern of the next structural mark.
        closers: Of the open objects and arrays, outermost first.
    """

    def __init__(self, paths: Paths, max_depth: int) -> None:
        self._paths = paths
        self._max_depth = max_depth
        self._path: list[Node] = []  # the nodes of these, from the outermost, that are on a path
        self.at_key = False
        self.matched: Node | None = None
        self.node: Node | None = None
        self.mark = _ON_PATH
        self.closers = bytearray()

    @property
    def leaf(self) -> Leaf | None:
        """The kind of the string; None if it stays."""
        return self.matched if isinstance(self.matched, Leaf) and not self.at_key else None

    @property
    def is_at_key(self) -> bool:
        """True if the string may be a key of a path."""
        return self.at_key and isinstance(self.node, dict)

    def match_key(self, key: bytes) -> None:
        """Note the key of the next value, if it may be on a path."""
        if isinstance(self.node, dict):
            if b"\\" in key:
                with suppress(ValueError):  # an invalid key is left to the envelope's parser
                    key = unescaped(key)
            self.matched = self.node.get(key)

    def open(self, closer: bytes) -> None:
        """Enter an object or array.

        Raises:
            MalformedAnswerError: They are nested too deeply.
        """
        check_limit(len(self.closers) + 1, self._max_depth, "nested objects and arrays")
        node = self.matched
        if not self.closers:
            node = self._paths.get(closer)
        elif isinstance(self.node, list):
            node = self.node[0]
        self.node = node if isinstance(node, dict if closer == b"}" else list) else None
        if self.node is not None:
            self._path.append(self.node)
        self.mark = _ON_PATH if self.node is not None else _OFF_PATH
        self.closers += closer
        self.at_key, self.matched = True, None

    def close(self, closers: bytes) -> int:
        """Leave objects and arrays, at most to the end of the document; return how many.

        Raises:
            MalformedAnswerError: One of them is the other of both.
        """
        number = 0
        for closer in closers:
            number += 1
            if not self.closers or self.closers.pop() != closer:
                raise MalformedAnswerError(
                    f"the answer is not valid JSON: a {chr(closer)!r} closes nothing"
                )
            if not self.closers:
                break
        depth = len(self.closers)
        del self._path[depth:]
        is_on_path = len(self._path) == depth
        self.node = self._path[-1] if is_on_path and depth else None
        self.mark = _ON_PATH if is_on_path else _OFF_PATH
        self.matched = None
        return number
