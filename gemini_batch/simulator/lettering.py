"""Text on an image, in a font size that fits."""

import math
import unicodedata
from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LINE = 1.28  # height of a line, in font sizes
_MAX_HEIGHT = 0.32  # share of the image that the prompt may cover
_MAX_PROMPT_LENGTH = 2000  # characters; a longer text would not be readable
# Characters of Pillow's default font that are not ASCII.
_EXTRA = "‘’“”…·°"  # noqa: RUF001 - these characters are intended
_LIKE = str.maketrans({0x2013: "-", 0x2014: "-", 0xD7: "x", 0xDF: "ss"})
# Fonts for all other characters; the first that is installed is used.
_UNICODE_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "unifont.ttf",
)


def write(canvas: Image.Image, prompt: str, footer: str) -> None:
    """Write the prompt on a darkened band at the bottom, and the footer below it."""
    width, height = canvas.size
    margin = round(width * 0.05)
    prompt, unicode = _writable(prompt[:_MAX_PROMPT_LENGTH])
    size = max(12, round(math.sqrt(width * height) / 19))
    small = max(9, round(math.sqrt(width * height) / 56))
    while True:
        font = _font(size, unicode=unicode)
        lines = _wrapped(prompt, font, width - 2 * margin)
        if len(lines) * size * _LINE <= height * _MAX_HEIGHT or size <= 12:
            break
        size = max(12, round(size * 0.88))
    max_lines = max(1, int(height * _MAX_HEIGHT / (size * _LINE)))
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1].rstrip() + " …"]
    top = height - round(len(lines) * size * _LINE + small * 2.8) - margin // 3
    shade = (
        Image.linear_gradient("L")
        .resize((width, height - top + margin))
        .point(lambda value: value * 190 // 255)
    )
    canvas.paste((8, 10, 24), (0, top - margin, width, height), shade)
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        down = top + number * size * _LINE
        pen.text((margin + size / 18, down + size / 18), line, (0, 0, 0), font)
        pen.text((margin, down), line, (255, 255, 255), font)
    footer, font = fitting(footer, small, width - 2 * margin)
    pen.text((margin, height - small * 2), footer, (222, 226, 234), font)


def fitting(line: str, size: int, width: int) -> tuple[str, Font]:
    """Return `line` as it can be written, and a font in which it fits.

    Args:
        line: The text.
        size: Maximum font size.
        width: Maximum width in pixels.
    """
    line, unicode = _writable(line)
    font = _font(size, unicode=unicode)
    while size > 7 and font.getlength(line) > width:
        size -= 1
        font = _font(size, unicode=unicode)
    return line, font


def _writable(text: str) -> tuple[str, bool]:
    """Return `text` and whether it needs a Unicode font; if none is installed, drop its accents."""
    if all(" " <= letter <= "~" or letter in _EXTRA or letter.isspace() for letter in text):
        return text, False
    if _unicode_font() is not None:
        return text, True
    plain = unicodedata.normalize("NFKD", text.translate(_LIKE))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)), False


@lru_cache(maxsize=1)
def _unicode_font() -> str | None:
    for name in _UNICODE_FONTS:
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        return name
    return None


@lru_cache(maxsize=64)
def _font(size: int, *, unicode: bool) -> Font:
    name = _unicode_font() if unicode else None
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels, inside a word if necessary."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if font.getlength(longer) <= width:
                line = longer
                continue
            if line:
                lines.append(line)
            line = word
            while font.getlength(line) > width and len(line) > 1:
                fits = max(1, int(len(line) * width / font.getlength(line)))
                lines.append(line[:fits])
                line = line[fits:]
        if line:
            lines.append(line)
    return lines
