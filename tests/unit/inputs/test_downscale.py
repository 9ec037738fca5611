"""Downscaled copies of large reference images."""

import io
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gemini_batch.errors import StorageError
from gemini_batch.inputs import Downscaler, ImageChangedError, InputImageError, Inputs, downscale
from gemini_batch.records import InputImage, InputUri, Request, Text
from tests.builders import BLUE, GREEN, RED, WHITE, corners, sha256, tree

ORIENTATION = 0x0112
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


def seen(file: str) -> list[tuple[int, ...]]:
    """Return the colours in the four corners of a file, as a viewer that ignores EXIF shows them, rounded to 0 or 255."""
    with Image.open(file) as picture:
        shown = picture.convert("RGB")
    across, down = shown.width // 4, shown.height // 4
    places = [(across, down), (3 * across, down), (across, 3 * down), (3 * across, 3 * down)]
    pixels: list[Any] = [shown.getpixel(place) for place in places]
    return [tuple(255 * round(value / 255) for value in pixel) for pixel in pixels]


def looked_up(file: Path, max_pixels: int) -> InputImage:
    """Return the facts that validation finds."""
    image = Inputs(file.parent, max_pixels).resolve(file.name)
    assert isinstance(image, InputImage)
    return image


def copy_of(file: Path, max_pixels: int = 800) -> InputImage:
    """Return the downscaled copy of a file."""
    copy = Downscaler(file.parent / "inputs").image(looked_up(file, max_pixels)).downscaled
    assert copy is not None
    return copy


def opened(image: InputImage) -> Image.Image:
    """Return the copy as Pillow reads it, with nothing left open."""
    with Image.open(image.file) as picture:
        picture.load()
        return picture


# --- the decision -----------------------------------------------------------------------------------------------------


def test_only_images_with_more_pixels_are_downscaled(tmp_path: Path) -> None:
    """An image of exactly N pixels is sent unchanged, and none is enlarged."""
    file = tmp_path / "a.png"
    corners(80, 40).save(file)
    assert looked_up(file, 3199).max_pixels == 3199
    assert (looked_up(file, 3199).width, looked_up(file, 3199).height) == (80, 40)
    as_it_is = Inputs(tmp_path).resolve("a.png")
    assert looked_up(file, 3200) == as_it_is
    assert looked_up(file, 10_000) == as_it_is
    assert Downscaler(tmp_path / "inputs").image(looked_up(file, 3200)) == as_it_is
    assert sorted(tree(tmp_path)) == ["a.png"]


def test_an_animation_is_sent_unchanged(tmp_path: Path) -> None:
    """An animation would lose all but its first picture."""
    frames = [corners(), corners().rotate(180)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert looked_up(tmp_path / name, 100).max_pixels is None


def test_formats_that_some_pillows_read_are_sent_unchanged(tmp_path: Path) -> None:
    """HEIC, HEIF and AVIF are not downscaled: another Pillow could not read them, and would pay again."""
    corners().save(tmp_path / "a.avif")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    for name, mime_type in (("a.avif", "image/avif"), ("a.heic", "image/heic")):
        image = looked_up(tmp_path / name, 100)
        assert (image.mime_type, image.max_pixels) == (mime_type, None)


def test_an_image_whose_header_is_broken_is_left_to_the_api(tmp_path: Path) -> None:
    """An image without a readable size is sent unchanged."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert looked_up(tmp_path / "a.png", 100).max_pixels is None


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that claims to be so large, and has nothing behind its header."""
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "PNG")
    data = bytearray(out.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    """A few bytes that claim to be gigabytes are refused before they are decoded; only with the flag."""
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(100_000, 100_000))
    with pytest.raises(InputImageError) as refused:
        looked_up(file, 1_000_000)
    assert str(refused.value) == (
        'got "bomb.png" of 100,000 by 100,000 pixels; --max-input-pixels can downscale images of up to 200 million '
        "pixels: do it yourself, or upload it with the Files API and give its https:// URI"
    )
    assert isinstance(Inputs(tmp_path).resolve("bomb.png"), InputImage)
    file.write_bytes(png_header(20_000, 10_000))
    assert looked_up(file, 1_000_000).max_pixels == 1_000_000


def test_a_file_over_the_inline_limit_passes_when_its_copy_will_fit(tmp_path: Path) -> None:
    """The copy counts: 80 MB of a large scan are 8 MB when a tenth of its pixels is sent."""
    file = tmp_path / "scan.png"
    file.write_bytes(png_header(10_000, 10_000))
    with file.open("r+b") as stream:
        stream.truncate(80_000_000)
    assert looked_up(file, 10_000_000).upload_bytes == 8_000_000
    with pytest.raises(
        InputImageError,
        match=r"^got \"scan.png\" of 78.4 MB; allowed: 75 MB, which are 100 MB in the request",
    ):
        looked_up(file, 98_000_000)
    with pytest.raises(
        InputImageError,
        match=r"^got \"scan.png\" of 80.0 MB; allowed: 75 MB, which are 100 MB in the request",
    ):
        Inputs(tmp_path).resolve("scan.png")


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.integers(1, 200_000_000))
@example(50, 50, 49)
@example(25, 50, 392)
@example(4, 1, 1)
@example(1, 4, 1)
@example(20_000, 1, 100)
def test_the_copy_fits_and_keeps_its_shape(width: int, height: int, max_pixels: int) -> None:
    """A copy of any image has at most this many pixels, and is the largest such in whole pixels."""
    if width * height <= max_pixels:
        return
    across, down = downscale.fitting(width, height, max_pixels)
    assert across >= 1
    assert down >= 1
    assert across <= width
    assert down <= height
    assert across * down <= max_pixels
    assert min(across, down) == 1 or (across + 1) * (down + 1) > max_pixels
    if min(across, down) > 50:
        assert across / down == pytest.approx(width / height, rel=0.03)


# --- pictures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
def test_the_copy_is_upright(tmp_path: Path, extension: str, orientation: int) -> None:
    """Each of the eight EXIF orientations gives an upright copy without EXIF."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    undone = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = corners().transpose(undone[orientation]) if orientation > 1 else corners()
    file = tmp_path / f"a{extension}"
    held.save(file, exif=exif, quality=95)
    small = copy_of(file)
    assert seen(small.file) == [RED, GREEN, BLUE, WHITE]
    assert (small.width, small.height) == (40, 20)
    assert not opened(small).getexif()


def test_a_copy_has_no_place_and_time(tmp_path: Path) -> None:
    """EXIF and comments are dropped; the colour profile is kept."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    corners().save(tmp_path / "a.jpg", exif=exif, comment=b"at home", icc_profile=PROFILE)
    corners().save(tmp_path / "a.png", exif=exif, icc_profile=PROFILE)
    for name in ("a.jpg", "a.png"):
        small = opened(copy_of(tmp_path / name))
        assert not small.getexif()
        assert "comment" not in small.info
        assert small.info["icc_profile"] == PROFILE


def test_broken_exif_turns_nothing(tmp_path: Path) -> None:
    """Corrupt EXIF does not keep an image from being sent."""
    for name, exif in (("a.jpg", b"II*\0\xff\xff\xff\xff"), ("b.jpg", b"garbage garbage")):
        corners().save(tmp_path / name, exif=b"Exif\0\0" + exif)
        assert seen(copy_of(tmp_path / name).file) == [RED, GREEN, BLUE, WHITE]


def translucent(mode: str) -> Image.Image:
    """Return a picture with a transparent left half."""
    picture = corners().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 40, 40))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGBA"), ("a.png", "LA"), ("a.png", "P"), ("a.webp", "RGBA"), ("a.gif", "RGBA")],
)
def test_alpha_is_kept(tmp_path: Path, name: str, mode: str) -> None:
    """Transparent areas stay transparent, and visible ones are not darkened at their edge."""
    translucent(mode).save(tmp_path / name, lossless=True)
    small = copy_of(tmp_path / name)
    assert small.mime_type == ("image/webp" if name == "a.webp" else "image/png")
    shown = opened(small).convert("RGBA")
    left: Any = shown.getpixel((10, 10))
    right: Any = shown.getpixel((30, 5))
    assert (left[3], right[3]) == (0, 255)
    if mode != "LA":
        assert right[:3] == pytest.approx(GREEN, abs=8)


def test_a_transparent_colour_is_kept(tmp_path: Path) -> None:
    """A PNG can name one colour as transparent instead of an alpha channel."""
    corners().save(tmp_path / "rgb.png", transparency=RED)
    corners().convert("L").save(tmp_path / "grey.png", transparency=76)
    for name in ("rgb.png", "grey.png"):
        shown = opened(copy_of(tmp_path / name)).convert("RGBA")
        alphas: list[Any] = [shown.getpixel(place) for place in ((10, 5), (30, 15))]
        assert [pixel[3] for pixel in alphas] == [0, 255]


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("a.png", "1", "L"), ("a.png", "L", "L"), ("a.png", "P", "RGB"), ("a.png", "RGB", "RGB"), ("a.png", "I;16", "L"),
        ("a.jpg", "L", "L"), ("a.jpg", "RGB", "RGB"), ("a.jpg", "CMYK", "CMYK"), ("a.gif", "L", "RGB"), ("a.webp", "RGB", "RGB"),
    ],
)  # fmt: skip
def test_every_kind_of_picture_can_be_downscaled(
    tmp_path: Path, name: str, mode: str, expected: str
) -> None:
    """Bits, greys of 8 and 16 bits, palettes, CMYK: brightness and format are kept."""
    picture = Image.new("L", (80, 40), 220)
    picture.paste(30, (0, 0, 40, 40))
    if mode == "I;16":
        picture = picture.convert("I").point(lambda value: value * 257).convert("I;16")
    elif mode == "1":
        picture = picture.point(lambda value: 255 * (value > 100)).convert("1")
    else:
        picture = picture.convert(mode)
    picture.save(tmp_path / name)
    small = copy_of(tmp_path / name)
    shown = opened(small)
    assert shown.mode == expected
    assert (small.width, small.height) == shown.size == (40, 20)
    grey = shown.convert("L")
    dark: Any = grey.getpixel((10, 10))
    light: Any = grey.getpixel((30, 10))
    assert dark < 60
    assert light > 190


def test_a_large_photo_is_not_decoded_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A JPEG that becomes much smaller is decoded at an eighth of its size."""
    from PIL.JpegImagePlugin import JpegImageFile

    decoded: list[tuple[int, int]] = []
    load = JpegImageFile.load

    def noted(self: JpegImageFile) -> Any:
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImageFile, "load", noted)
    corners(3200, 1600).save(tmp_path / "a.jpg")
    assert seen(copy_of(tmp_path / "a.jpg").file) == [RED, GREEN, BLUE, WHITE]
    assert (400, 200) in decoded


# --- the copies -------------------------------------------------------------------------------------------------------


def test_the_copy_is_described_as_it_is(tmp_path: Path) -> None:
    """Its path, size, time and hash are the uploaded file's; the image keeps the original's."""
    corners().save(tmp_path / "a.png")
    image = looked_up(tmp_path / "a.png", 800)
    whole = Downscaler(tmp_path / "inputs").image(image)
    data = (tmp_path / "inputs" / f"{image.sha256}-800.png").read_bytes()
    status = (tmp_path / "inputs" / f"{image.sha256}-800.png").stat()
    assert whole == replace(image, downscaled=whole.downscaled)
    assert whole.downscaled == InputImage(
        path="a.png",
        file=str(tmp_path / "inputs" / f"{image.sha256}-800.png"),
        mime_type="image/png",
        size_bytes=len(data),
        mtime_ns=status.st_mtime_ns,
        sha256=sha256(data),
        width=40,
        height=20,
    )
    assert whole.upload_bytes == len(data)


def test_a_request_gets_all_its_copies(tmp_path: Path) -> None:
    """Only images that are too large change, and all parts keep their place."""
    corners().save(tmp_path / "large.png")
    corners(20, 10).save(tmp_path / "small.png")
    large, small = looked_up(tmp_path / "large.png", 800), looked_up(tmp_path / "small.png", 800)
    uri, downscaler = InputUri("https://x/a"), Downscaler(tmp_path / "inputs")
    request = downscaler.request(Request("m", (small, Text("x"), large, uri)))
    assert request == Request("m", (small, Text("x"), downscaler.image(large), uri))


def test_a_copy_is_made_once_and_reused_by_later_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content, under any name, is decoded once for each N; a later run reuses the copy."""
    made = Mock(wraps=downscale._copy)
    monkeypatch.setattr(downscale, "_copy", made)
    corners().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    downscaler = Downscaler(tmp_path / "inputs")
    first = downscaler.image(looked_up(tmp_path / "a.png", 800))
    again = downscaler.image(looked_up(tmp_path / "b.png", 800))
    assert first.downscaled is not None
    assert again.downscaled == replace(first.downscaled, path="b.png")
    assert made.call_count == 1
    assert Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 800)) == first
    assert made.call_count == 1
    Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 700))
    assert made.call_count == 2


def test_a_damaged_copy_is_made_again(tmp_path: Path) -> None:
    """A copy that is not an image is made again; a changed one is described as it now is."""
    corners().save(tmp_path / "a.png")
    image, downscaler = looked_up(tmp_path / "a.png", 800), Downscaler(tmp_path / "inputs")
    first = downscaler.image(image).downscaled
    assert first is not None
    Path(first.file).write_bytes(b"")
    again = downscaler.image(image).downscaled
    assert again is not None
    assert (again.sha256, again.size_bytes) == (first.sha256, first.size_bytes)
    Path(first.file).unlink()
    assert downscaler.image(image).downscaled is not None
    corners(10, 5).save(first.file)
    changed = downscaler.image(image).downscaled
    assert changed is not None
    assert (changed.width, changed.sha256) == (10, sha256(Path(first.file).read_bytes()))


def test_a_copy_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is written leaves no half copy under its name, and the next run makes it."""
    corners().save(tmp_path / "a.png")
    image = looked_up(tmp_path / "a.png", 800)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Downscaler(tmp_path / "inputs").image(image)
    assert [path.suffix for path in (tmp_path / "inputs").iterdir()] == [".part"]
    assert Downscaler(tmp_path / "inputs").image(image).downscaled is not None
    assert [path.suffix for path in (tmp_path / "inputs").iterdir()] == [".png"]


class Asked:
    """A lock that counts who asked for it."""

    def __init__(self) -> None:
        self._lock, self._asked = threading.Lock(), threading.Semaphore(0)

    def __enter__(self) -> None:
        self._asked.release()
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()

    def wait_for(self, number: int) -> None:
        """Wait until so many asked."""
        assert all(self._asked.acquire(timeout=60) for _ in range(number))


def test_threads_make_one_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A style reference of all calls is decoded by one of them, and the others wait for it."""
    corners().save(tmp_path / "a.png")
    image, downscaler = looked_up(tmp_path / "a.png", 800), Downscaler(tmp_path / "inputs")
    copy, made, lock = downscale._copy, [], Asked()
    downscaler._locks = [lock] * len(downscaler._locks)  # type: ignore[list-item]

    def slow(*given: Any) -> bytes:
        made.append(given)
        lock.wait_for(4)
        return copy(*given)

    def one(_: int) -> InputImage:
        return downscaler.image(image)

    monkeypatch.setattr(downscale, "_copy", slow)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    assert len(made) == 1
    assert [result.downscaled for result in results] == [results[0].downscaled] * 4


def test_only_one_large_image_is_decoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large images, which take hundreds of megabytes each, wait for each other; small ones don't."""
    monkeypatch.setattr(downscale, "LARGE_PIXELS", 3000)
    monkeypatch.setattr(downscale, "_LOCKS", 1 << 16)  # no two names share a lock by chance
    is_small, decoded = False, list[int]()
    inside, most, together, large = [], 0, threading.Barrier(3), Asked()

    def slow(_stream: Any, _mime_type: str, _max_pixels: int) -> bytes:
        nonlocal most
        inside.append(1)
        decoded.append(1)
        most = max(most, len(inside))
        if is_small:
            together.wait(60)
        elif len(decoded) == 1:
            large.wait_for(3)
        inside.pop()
        return png_header(1, 1)

    monkeypatch.setattr(downscale, "_copy", slow)
    downscaler = Downscaler(tmp_path / "inputs")
    downscaler._large = large  # type: ignore[assignment]
    for number, size in enumerate([(80, 40)] * 3 + [(40, 40)] * 3):
        corners(*size).rotate(number).save(tmp_path / f"{number}.png")
    images = [looked_up(tmp_path / f"{number}.png", 800) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(downscaler.image, images[:3]))
        assert most == 1
        is_small = True
        list(pool.map(downscaler.image, images[3:]))
    assert most == 3


def test_copies_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is used again is not read again; the memory of copies is bounded."""
    corners().save(tmp_path / "a.png")
    image, downscaler = looked_up(tmp_path / "a.png", 800), Downscaler(tmp_path / "inputs")
    first = downscaler.image(image)
    monkeypatch.setattr(Path, "read_bytes", Mock(side_effect=AssertionError))
    assert downscaler.image(image) == first
    assert downscale._described.cache_info().maxsize == 40_000


# --- errors ------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_says_so(tmp_path: Path) -> None:
    """A truncated photo has a valid header; the message names it, the reason, and what to do."""
    file = tmp_path / "cut.jpg"
    corners(400, 400).save(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputImageError) as refused:
        copy_of(file)
    assert str(refused.value).startswith("cut.jpg: can't be decoded to downscale it (")
    assert str(refused.value).endswith("): fix it, or run without --max-input-pixels")
    assert not isinstance(refused.value, ImageChangedError)


def test_an_image_that_changed_since_it_was_planned_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be gone, edited before its turn, or edited while it is read."""
    file = tmp_path / "a.png"
    corners().save(file)
    image, downscaler = looked_up(file, 800), Downscaler(tmp_path / "inputs")
    changed = "^a.png: changed since the run began; run again$"

    def edit(*_: Any) -> bytes:
        os.utime(file, ns=(0, 0))
        return b""

    with monkeypatch.context() as patched:
        patched.setattr(downscale, "_copy", edit)
        with pytest.raises(ImageChangedError, match=changed):
            downscaler.image(image)
    with pytest.raises(ImageChangedError, match=changed):
        downscaler.image(image)
    file.unlink()
    with pytest.raises(
        ImageChangedError, match=r"^a.png: can no longer be read: No such file or directory$"
    ):
        downscaler.image(image)
    assert not (tmp_path / "inputs").exists()


def test_a_copy_that_cannot_be_written_is_an_error_of_the_folder(tmp_path: Path) -> None:
    """The image is not at fault: the run must stop, and no job fails."""
    corners().save(tmp_path / "a.png")
    (tmp_path / "inputs").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"inputs/[0-9a-f]{64}-800.png: can't be written: "):
        Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 800))


def test_validation_reads_each_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image is recognised by its path, size, time and inode: the event loop reads nothing."""
    corners().save(tmp_path / "a.png")
    measured = Mock(wraps=downscale.pixels)
    monkeypatch.setattr(downscale, "pixels", measured)
    known = Inputs(tmp_path, 800)
    assert known.resolve("a.png") is known.resolve("a.png")
    assert measured.call_count == 1
