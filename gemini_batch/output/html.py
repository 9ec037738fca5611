"""HTML of rows, as a notebook shows it: a table with small pictures.

All text is escaped: prompts, ids and reasons are untrusted. A picture is drawn again, small and
without metadata, and is in the HTML itself, so that a notebook shows it on any machine.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

from gemini_batch.records import ResultRow

MAX_ROWS = 20
"""Rows with a picture in one table: about 5 kB each."""
SIDE_PX = 128
_MAX_PIXELS = 100_000_000
_MAX_CHARS = 300
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF")
_HEADS = ("picture", "id", "status", "prompt")


def table(rows: Sequence[tuple[ResultRow, Path | None]]) -> str:
    """Return the first rows and their pictures as a table, and the number of the others."""
    heads = "".join(f"<th>{name}</th>" for name in _HEADS)
    lines = "".join(_line(row, file) for row, file in rows[:MAX_ROWS])
    more = len(rows) - MAX_ROWS
    note = f"<p>and {more:,} more</p>" if more > 0 else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>{note}"


def facts(values: Sequence[tuple[str, object]]) -> str:
    """Return names and values as a table of two columns."""
    lines = (f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in values)
    return f"<table><tbody>{''.join(lines)}</tbody></table>"


def text(value: object) -> str:
    """Return a value as escaped text, cut where it is long."""
    found = str(value).encode(errors="replace").decode()
    return escape(found if len(found) <= _MAX_CHARS else f"{found[:_MAX_CHARS]}…")


def _line(row: ResultRow, file: Path | None) -> str:
    source = _small(file) if file else None
    shown = f'<img src="{source}" alt="">' if source else "no preview" if file else ""
    cells = (
        f'<td dir="auto">{text(each)}</td>' for each in (row.id, _status(row), row.prompt or "")
    )
    return f"<tr><td>{shown}</td>{''.join(cells)}</tr>"


def _status(row: ResultRow) -> str:
    why = row.error.message if row.error else row.block_reason
    return row.status.value + (f": {why}" if why else "")


def _small(file: Path) -> str | None:
    """Return a small copy of a picture as a data URI; None if it can't be read."""
    from PIL import Image, ImageOps  # few programs show rows

    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                return None
            image.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))
            small = image.convert("RGBA" if image.has_transparency_data else "RGB")
            small.thumbnail((SIDE_PX, SIDE_PX))
            small = ImageOps.exif_transpose(small)
            small.info.clear()
            target = BytesIO()
            small.save(target, "WEBP", quality=75)
    except Exception:  # noqa: BLE001 # on untrusted bytes Pillow raises anything
        return None
    return f"data:image/webp;base64,{b64encode(target.getvalue()).decode()}"
