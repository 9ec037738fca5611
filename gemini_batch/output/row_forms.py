"""Forms that other programs give the file of rows, by its first bytes, with advice for the user."""

import re

_UNPACK = "unpack it"
_AGAIN = "make it one row per line again"
# https://en.wikipedia.org/wiki/List_of_file_signatures (2026-11-30)
_SIGNATURES = (
    (b"\x1f\x8b", f"is compressed with gzip; {_UNPACK} (gunzip)"),
    (b"BZh", f"is compressed with bzip2; {_UNPACK} (bunzip2)"),
    (b"\xfd7zXZ\0", f"is compressed with xz; {_UNPACK} (unxz)"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with zstd; {_UNPACK} (unzstd)"),
    (b"PK\3\4", f"is a ZIP archive; {_UNPACK} (unzip)"),
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
    (b"\xef\xbb\xbf", "begins with a byte order mark; save it as UTF-8 without one"),
    (b"[", f"is one JSON array, as jq -s writes it; {_AGAIN} (jq -c '.[]')"),
)
_OVER_LINES = re.compile(rb"\{[ \t\r]*\n")
# The start of a row after another one. Within a string its quotes would be escaped.
_WITHOUT_LINES = re.compile(
    rb'\}[ \t]*,?[ \t]*\{ ?"id" ?: ?"(?:[^"\\]|\\.)*" ?, ?"line" ?: ?\d+ ?, ?"status" ?:'
)


def form_of(head: bytes) -> str:
    """Return what is wrong with a file that begins so, as a whole; "" if it may hold rows."""
    start = head.lstrip(b" \t\r\n")
    for magic, message in _SIGNATURES:
        if start.startswith(magic):
            return message
    if b"\0" in start[:4]:
        return "has NUL bytes, as UTF-16 has; save it as UTF-8"
    if _OVER_LINES.match(start):
        return f"has rows over several lines, as jq writes them; {_AGAIN} (jq -c .)"
    if _WITHOUT_LINES.search(start):
        return f"has several rows on one line; {_AGAIN} (jq -c .)"
    return ""
