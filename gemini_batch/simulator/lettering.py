"""Writes words on a picture, in a size that fits."""

import math
import unicodedata
from functools import lru_cache
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LINE = 1.28  # height of a line, in font sizes
_MOST_HEIGHT = 0.32  # share of the picture that the prompt may cover
_LONGEST_PROMPT = 2000  # characters; more would not be readable anyway
# What Pillow's own font has beside ASCII.
_EXTRA = "‘’“”…·°"  # noqa: RUF001 - these very letters are meant
_LIKE = str.maketrans({0x2013: "-", 0x2014: "-", 0xD7: "x", 0xDF: "ss"})
# Fonts with the letters that it lacks; the first that this system has is used.
_WORLD_FONTS = (
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
    prompt, world = _spelled(prompt[:_LONGEST_PROMPT])
    size = max(12, round(math.sqrt(width * height) / 19))
    small = max(9, round(math.sqrt(width * height) / 56))
    while True:
        font = _font(size, world=world)
        lines = _wrapped(prompt, font, width - 2 * margin)
        if len(lines) * size * _LINE <= height * _MOST_HEIGHT or size <= 12:
            break
        size = max(12, round(size * 0.88))
    most = max(1, int(height * _MOST_HEIGHT / (size * _LINE)))
    if len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1].rstrip() + " …"]
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
    """Return `line` as it can be written, and the largest font up to `size` in which it is at most `width` pixels wide."""
    line, world = _spelled(line)
    font = _font(size, world=world)
    while size > 7 and font.getlength(line) > width:
        size -= 1
        font = _font(size, world=world)
    return line, font


def _spelled(text: str) -> tuple[str, bool]:
    """Return `text` and whether it needs a font of the whole world; without such a font, accents are left out."""
    if all(" " <= letter <= "~" or letter in _EXTRA or letter.isspace() for letter in text):
        return text, False
    if _world_font() is not None:
        return text, True
    plain = unicodedata.normalize("NFKD", text.translate(_LIKE))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)), False


@lru_cache(maxsize=1)
def _world_font() -> str | None:
    for name in _WORLD_FONTS:
        try:
            ImageFont.truetype(name, 12)
        except OSError:
            continue
        return name
    return None


@lru_cache(maxsize=64)
def _font(size: int, *, world: bool) -> Font:
    name = _world_font() if world else None
    return ImageFont.load_default(size) if name is None else ImageFont.truetype(name, size)


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels, inside a word where it has to be."""
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
