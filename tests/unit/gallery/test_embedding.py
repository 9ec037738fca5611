"""A page that is mailed: all its pictures are in it, and it has a size that mail takes."""

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gemini_batch.cli import main
from gemini_batch.errors import ConfigError
from gemini_batch.gallery.writer import write_gallery
from tests.unit.gallery.folder import picture, place, row, write_rows
from tests.unit.gallery.test_writer import block

pytestmark = pytest.mark.slow


def noise(side_px: int, seed: int = 0) -> bytes:
    """Return a picture that can hardly be compressed."""
    file = BytesIO()
    Image.effect_noise((side_px, side_px), 60 + seed).convert("RGB").save(file, "JPEG", quality=80)
    return file.getvalue()


def sides(out: Path) -> list[int]:
    """Return the longer side of each picture in the page."""
    data = (uri.partition(",")[2] for uri in block(out, "thumbnails").values())
    return [max(Image.open(BytesIO(base64.b64decode(each))).size) for each in data]


def folder_of(out: Path, *pictures: bytes) -> None:
    """Write a row for each picture."""
    files = [place(out, f"images/{number}.jpg", data) for number, data in enumerate(pictures)]
    write_rows(out, *(row(str(number), images=[file]) for number, file in enumerate(files)))


def test_pictures_are_as_large_as_the_page_allows(out: Path) -> None:
    """With more room each picture has more pixels, up to its own; the page keeps its size."""
    folder_of(out, *(noise(640, seed) for seed in range(2)))
    found = []
    for max_bytes in (330_000, 560_000, 18_000_000):
        written = write_gallery(out, max_mailed_bytes=max_bytes)
        assert written.size_bytes == (out / "gallery.html").stat().st_size <= max_bytes
        found.append(sides(out))
    assert [set(each) for each in found] == [{384}, {600}, {640}]


def test_small_and_large_pictures_share_the_page(out: Path) -> None:
    """A picture never grows; inputs and drafts are thumbnails."""
    folder_of(out, noise(50), picture(size=(1700, 20)))
    file = place(out, "images/2.jpg", noise(500, 1))
    draft = place(out, "drafts/2.1.jpg", noise(500, 2))
    write_rows(out, row("2", images=[file], drafts=[draft]))
    write_gallery(out, max_mailed_bytes=18_000_000)
    assert sorted(sides(out)) == [50, 384, 500, 1600]
    assert block(out, "about")["is_mailed"] is True


def test_too_many_pictures_are_refused_and_the_earlier_page_stays(out: Path) -> None:
    """The message has both sizes and a way; it is said before any picture is drawn again."""
    folder_of(out, *(noise(390, seed) for seed in range(4)))
    write_gallery(out)
    before = (out / "gallery.html").read_bytes()
    with pytest.raises(ConfigError, match=r"4 pictures take 0\.\d MB; .* at most 0 MB: pick some"):
        write_gallery(out, max_mailed_bytes=200_000)
    assert (out / "gallery.html").read_bytes() == before


def test_a_picture_that_is_gone_since_its_thumbnail_was_made_has_that(out: Path) -> None:
    """What can't be read is no reason to fail; without a thumbnail it is named as missing."""
    folder_of(out, noise(500), noise(501))
    write_gallery(out)
    (out / "images/1.jpg").write_bytes(b"no picture")
    write_gallery(out, max_mailed_bytes=18_000_000)
    assert sorted(sides(out)) == [384, 500]


def test_the_command_says_how_large_the_page_is(
    out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A user sees whether it can be mailed."""
    folder_of(out, noise(400))
    assert main(["gallery", str(out), "--embed"]) == 0
    assert "1 picture · 0.2 MB · with all pictures in it" in capfd.readouterr().out
