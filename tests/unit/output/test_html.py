"""HTML of rows and summaries, as a notebook shows it."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gemini_batch.output import html
from gemini_batch.output.results import Result, Results, result_of
from gemini_batch.records import ImageFile
from tests.builders import make_row

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</td></table><iframe srcdoc='x'>",
    "&lt;b&gt; \u202e reversed \ud800 \0",
]


class Tags(HTMLParser):
    """The tags of a text, with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.found |= {tag, *(name for name, _ in attrs)}


def result(folder: Path, data: bytes, **fields: object) -> Result:
    """Return a row whose picture has these bytes."""
    (folder / "a.png").write_bytes(data)
    image = ImageFile("a.png", "image/png", len(data), 8, 8, "0" * 64)
    return result_of(replace(make_row("a", images=[image]), **fields), folder)  # type: ignore[arg-type]


def png(mode: str = "RGB", size: tuple[int, int] = (600, 300)) -> bytes:
    """Return a picture."""
    target = BytesIO()
    Image.new(mode, size).save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_markup(tmp_path: Path, text: str) -> None:
    """Prompts, ids and paths are shown as they are; no tag and no attribute comes from them."""
    shown = result(tmp_path, png(), id=text, prompt=text)._repr_html_()
    allowed = {"table", "thead", "tbody", "tr", "th", "td", "img", "src", "alt", "dir"}
    assert Tags(shown).found <= allowed
    assert Tags(html.facts([(text, text)])).found <= allowed
    assert shown.encode()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "1", "I;16"])
def test_a_row_has_a_small_picture(tmp_path: Path, mode: str) -> None:
    """The HTML has a copy of at most 128 pixels, for any mode of the picture."""
    shown = result(tmp_path, png(mode))._repr_html_()
    assert re.search(r'src="data:image/webp;base64,[A-Za-z0-9+/=]+"', shown)
    assert len(shown) < 4_000


@pytest.mark.parametrize("data", [b"", b"GIF89a", png()[:60], b"<svg onload=alert(1)>"])
def test_a_picture_that_cannot_be_read_is_named_as_such(tmp_path: Path, data: bytes) -> None:
    """A broken or missing file is no error in a notebook."""
    broken = result(tmp_path, data)
    assert "no preview" in broken._repr_html_()
    broken.images[0].file.unlink()
    assert "no preview" in broken._repr_html_()


def test_many_rows_are_cut(tmp_path: Path) -> None:
    """A table shows the first twenty rows and the number of the others; a long prompt is cut."""
    rows = Results([result(tmp_path, png(), prompt="x" * 100_000)] * 1_234)
    shown = rows._repr_html_()
    assert shown.count("<tr>") == html.MAX_ROWS + 1
    assert "and 1,214 more" in shown
    assert len(shown) < 100_000
