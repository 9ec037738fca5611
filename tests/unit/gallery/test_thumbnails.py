"""Small pictures, made once."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from gemini_batch.errors import StorageError
from gemini_batch.gallery import thumbnails as module
from gemini_batch.gallery.thumbnails import (
    FOLDER,
    SIDE_PX,
    SUFFIX,
    Thumbnail,
    Thumbnails,
    ThumbnailsOnDemand,
)
from tests.builders import sha256
from tests.unit.gallery.folder import picture, place


def opened(thumbnails: Thumbnails, thumbnail: Thumbnail) -> Image.Image:
    """Return a thumbnail as an image."""
    assert thumbnail.key is not None
    return Image.open(BytesIO(thumbnails.data(thumbnail.key)))


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF"])
def test_a_thumbnail_is_small_and_keeps_the_shape(out: Path, format_name: str) -> None:
    """For every format the longest side is bounded, without cropping or distortion."""
    data = picture(size=(1600, 800), format_name=format_name)
    file = place(out, "images/a.bin", data)
    thumbnails = Thumbnails(out)
    small = opened(thumbnails, thumbnails.of(out / "images/a.bin", file["sha256"]))
    assert small.size == (SIDE_PX, SIDE_PX // 2)


def test_a_photograph_stands_upright(out: Path) -> None:
    """A camera's orientation is applied, and its other metadata (a place, a name) does not go along."""
    image = Image.new("RGB", (800, 400), "red")
    image.paste("blue", (0, 0, 400, 400))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise: what is left comes to the top
    exif[0x013B] = "Ada"
    source = BytesIO()
    image.save(source, "JPEG", exif=exif)
    place(out, "a.jpg", source.getvalue())
    thumbnails = Thumbnails(out)
    small = opened(thumbnails, thumbnails.of(out / "a.jpg", None))
    assert small.size == (SIDE_PX // 2, SIDE_PX)
    top = small.convert("RGB").getpixel((SIDE_PX // 4, 20))
    assert isinstance(top, tuple)
    assert top[0] < 60
    assert top[2] > 200
    assert not small.getexif()


def test_transparency_stays(out: Path) -> None:
    """A logo without a background has none on the page either."""
    source = BytesIO()
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(source, "PNG")
    place(out, "a.png", source.getvalue())
    thumbnails = Thumbnails(out)
    assert opened(thumbnails, thumbnails.of(out / "a.png", None)).getpixel((5, 5))[3] == 0  # type: ignore[index] # RGBA


def test_a_thumbnail_is_made_once(out: Path) -> None:
    """A second gallery opens no picture."""
    file = place(out, "a.png")
    first = Thumbnails(out).of(out / "a.png", file["sha256"])
    (out / "a.png").unlink()
    assert Thumbnails(out).of(out / "a.png", file["sha256"]) == first


def test_a_thumbnail_shows_what_its_name_says(out: Path) -> None:
    """A changed file never gets a thumbnail under the name of what it was."""
    place(out, "a.png", picture("red"))
    recorded = sha256(picture("blue"))
    found = Thumbnails(out).of(out / "a.png", recorded)
    assert found == Thumbnail(sha256(picture("red")), is_changed=True)
    assert [file.name for file in (out / FOLDER).iterdir()] == [f"{sha256(picture('red'))}{SUFFIX}"]


@pytest.mark.parametrize("recorded", ["../../evil", "A" * 64, "", 3, None, "0" * 63 + "\n"])
def test_a_sha256_that_is_none_names_no_file(out: Path, recorded: object) -> None:
    """A forged sha256 cannot lead to another file."""
    place(out, "a.png")
    found = Thumbnails(out).of(out / "a.png", recorded)
    assert found == Thumbnail(sha256(picture()), is_changed=False)


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of a few bytes that says it is so large."""
    data = bytearray(picture())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.filterwarnings("ignore")  # Pillow's on large images, which the gallery expects
@pytest.mark.parametrize("data", [bomb(10_001, 10_000), bomb(60_000, 60_000)])
def test_what_claims_to_be_huge_is_not_decoded(
    out: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a few bytes can't make this program take gigabytes."""
    monkeypatch.setattr(module, "_small", lambda _: b"decoded")
    file = place(out, "a.png", data)
    assert Thumbnails(out).of(out / "a.png", file["sha256"]) == Thumbnail(None, is_changed=False)


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\nbroken", picture()[:60], b"%!PS-Adobe", b""])
def test_what_can_not_be_read_has_no_thumbnail(out: Path, data: bytes) -> None:
    """A broken picture, and a file that is none, are linked without a thumbnail; the gallery continues."""
    file = place(out, "a.png", data)
    assert Thumbnails(out).of(out / "a.png", file["sha256"]) == Thumbnail(None, is_changed=False)
    assert not list((out / FOLDER).iterdir())


def test_large_pictures_are_decoded_one_at_a_time(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many cores there are, the memory is that of one large picture."""
    monkeypatch.setattr(module, "LARGE_PIXELS", 10)
    inside = threading.Barrier(2)

    def small(_: Image.Image, *_sizes: object) -> bytes:
        with suppress(threading.BrokenBarrierError):
            inside.wait(0.2)
            pytest.fail("two at a time")
        return b"small"

    monkeypatch.setattr(module, "_small", small)
    thumbnails = Thumbnails(out)
    for name in ("red", "blue"):
        place(out, f"{name}.png", picture(name))
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(lambda name: thumbnails.of(out / f"{name}.png", None), ("red", "blue"))
        )
    assert all(thumbnail.key for thumbnail in found)


def test_a_folder_that_leads_elsewhere_is_refused(out: Path, tmp_path: Path) -> None:
    """Thumbnails are written below the output folder, or not at all."""
    (tmp_path / "elsewhere").mkdir()
    (out / ".gemini_batch").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="a symbolic link leads out"):
        Thumbnails(out)


def test_a_thumbnail_on_demand_is_made_when_it_is_asked_for(out: Path) -> None:
    """A page names the thumbnails of recorded pictures before they exist; an unknown one is not made."""
    file = place(out, "images/a.png", picture())
    thumbnails = ThumbnailsOnDemand(out)
    named = thumbnails.of(out / "images/a.png", file["sha256"])
    made = out / FOLDER / f"{file['sha256']}{SUFFIX}"
    assert (named, made.exists()) == (Thumbnail(file["sha256"], is_changed=False), False)
    thumbnails.make("0" * 64 + SUFFIX)
    thumbnails.make(made.name)
    assert [path.name for path in (out / FOLDER).iterdir()] == [made.name]


def test_an_input_has_its_thumbnail_at_once(out: Path, tmp_path: Path) -> None:
    """Inputs are outside of the folder, and may have been edited since the run."""
    (tmp_path / "lake.png").write_bytes(picture())
    thumbnails = ThumbnailsOnDemand(out)
    named = thumbnails.of(tmp_path / "lake.png", sha256(b"before the edit"))
    assert named.is_changed
    assert thumbnails.data(named.key or "")
