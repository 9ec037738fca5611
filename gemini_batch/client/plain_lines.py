"""Short lines of a batch's results in their usual form, taken apart at once. Pure.

A batch may have 100,000 of them. What is found is what `ImageExtractor` finds, byte by byte, to
which any other line is left.
"""

import binascii
from typing import Any

import orjson
import pybase64

from gemini_batch.client.base64_image import is_whole_image
from gemini_batch.client.envelope import MAX_STRING_BYTES
from gemini_batch.client.malformed import ExtractorLimits

_DATA, _MARK = b'"data":"', b"#0"
_MAX_DEPTH = ExtractorLimits().depth


def taken_apart(line: bytes) -> tuple[bytes, bytes] | None:
    """Return the envelope and the image of a line; None if it is not short and plain."""
    if len(line) > MAX_STRING_BYTES or b"\\" in line:
        return None
    head, _, rest = line.partition(_DATA)
    data, quote, tail = rest.partition(b'"')
    others = (head + tail).lower()
    if not quote or b'"data"' in others or b"data:" in others:
        return None
    if others.count(b"{") + others.count(b"[") > _MAX_DEPTH:
        return None
    envelope = head + _DATA + _MARK + quote + tail
    try:
        image = pybase64.b64decode(data, validate=True)
        is_there = _has_image(orjson.loads(envelope))
    except (binascii.Error, ValueError, LookupError, TypeError, AttributeError):
        return None
    return (envelope, image) if is_there and is_whole_image(image) else None


def _has_image(line: Any) -> bool:
    """Return whether the mark is where an image is; if not, it may raise as of another type."""
    parts = line["response"]["candidates"][0]["content"]["parts"]
    return any(part.get("inlineData", {}).get("data") == _MARK.decode() for part in parts)
