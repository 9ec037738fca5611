"""Kinds of files that are no JSONL, known by their first bytes, with advice for the user."""

import re

HEAD_BYTES = 4096
TABLES = (".csv", ".tsv", ".tab")
"""Suffixes of tables."""

_EXAMPLE = '{"prompt": "A cute robot mascot"}'
_JSONL = f"a manifest is JSONL, one job per line, such as {_EXAMPLE}"
_CONVERT = f"convert it: {_JSONL}"
_PACKED = "unpack it first"
_PANDAS = 'with pandas: DataFrame.to_json("jobs.jsonl", orient="records", lines=True)'
_TABLE = f"convert it, {_PANDAS}; {_JSONL}"
# https://en.wikipedia.org/wiki/List_of_file_signatures, 2026-11; the first that fits counts.
_ENCODINGS = (
    (b"\xff\xfe\0\0", "is UTF-32; save it as UTF-8"),
    (b"\0\0\xfe\xff", "is UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "is UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "is UTF-16; save it as UTF-8"),
)
_SIGNATURES = (
    (b"\x1f\x8b", f"is compressed with gzip; {_PACKED} (gunzip)"),
    (b"BZh", f"is compressed with bzip2; {_PACKED} (bunzip2)"),
    (b"\xfd7zXZ\0", f"is compressed with xz; {_PACKED} (unxz)"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with zstd; {_PACKED} (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7z archive; {_PACKED}"),
    (b"PAR1", f"is a Parquet file; {_TABLE}"),
    (b"ARROW1", f"is an Arrow file; {_TABLE}"),
    (b"FEA1", f"is a Feather file; {_TABLE}"),
    (b"Obj\1", f"is an Avro file; {_CONVERT}"),
    (b"SQLite format 3\0", f"is an SQLite database; {_CONVERT}"),
    (b"\x89HDF", f"is an HDF5 file; {_CONVERT}"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"is an old Excel or Office file; {_TABLE}"),
    (b"%PDF", f"is a PDF; {_CONVERT}"),
    (b"{\\rtf", f"is RTF, as word processors write it; save it as plain text: {_JSONL}"),
    (b"<", f"is HTML or XML; {_CONVERT}"),
)
_ZIP = b"PK\3\4"
_ZIP_KINDS = (
    (b"xl/", f"is an Excel workbook; {_TABLE}"),
    (b"[Content_Types].xml", f"is an Excel workbook or another Office file; {_TABLE}"),
    (b"opendocument.spreadsheet", f"is an OpenDocument spreadsheet; {_TABLE}"),
    (b"", f"is a ZIP archive; {_PACKED} (unzip)"),
)
_TEXT_LINES = 5
_TAR_MAGIC, _TAR_AT = b"ustar", 257
_BOM = b"\xef\xbb\xbf"


def refusal(head: bytes) -> str | None:
    """Return what is wrong with a file that is not JSONL as a whole; None for one that may be.

    Args:
        head: Its first `HEAD_BYTES`.
    """
    for magic, message in _ENCODINGS:
        if head.startswith(magic):
            return message
    if other := binary(head):
        return other
    text = head.removeprefix(_BOM).lstrip()
    if text.startswith((b"{\0", b"\0{", b'"\0', b"[\0", b"\0[")):
        return "has NUL bytes, as UTF-16 has; save it as UTF-8"
    if text.startswith(b"["):
        return f"is one JSON array; write its objects one per line (jq -c '.[]'): {_JSONL}"
    return _table(text)


def binary(head: bytes) -> str | None:
    """Return what to do with a file that is neither JSONL nor a table; None if it may be one."""
    for magic, message in _SIGNATURES:
        if head.startswith(magic):
            return message
    if head.startswith(_ZIP):
        return next(message for mark, message in _ZIP_KINDS if mark in head)
    if head[_TAR_AT:].startswith(_TAR_MAGIC):
        return f"is a tar archive; {_PACKED}"
    return None


def _text(text: bytes) -> str | None:
    """Return that a file has no JSON, if its first lines have none; each of a few is shown."""
    lines = [line for line in text.splitlines() if line.strip()][:_TEXT_LINES]
    if len(lines) < _TEXT_LINES or any(b"{" in line for line in lines):
        return None
    return f"is plain text, without a JSON object in its first {_TEXT_LINES} lines; {_JSONL}"


def _table(text: bytes) -> str | None:
    """Return what is wrong with a table of text: its first line has the names of fields."""
    first = text.splitlines()[0].decode(errors="replace") if text else ""
    if not first or first.startswith("{"):
        return None
    from gemini_batch.manifest.table_jobs import NAMES
    from gemini_batch.manifest.tables import DELIMITERS

    delimiter = max(DELIMITERS, key=first.count)
    names = {
        re.sub(r"[\s_-]+", "_", cell.strip("\"' ").casefold()) for cell in first.split(delimiter)
    }
    if not names & NAMES:
        return _text(text)
    kind = DELIMITERS[delimiter] if delimiter in first else "CSV"
    return f"is {kind}: give it a name that ends in .csv, or add --format csv"
