"""Smaller copies of large reference images."""

import asyncio
import io
import os
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from gemini_batch.cli import main
from gemini_batch.clock import Clock
from gemini_batch.engine.preprocess import SHRINKS_AT_ONCE, Preparation
from gemini_batch.errors import StorageError
from gemini_batch.inputs import Downscaler, ImageChangedError, InputImageError, Inputs, downscale
from gemini_batch.output import OutputFolder
from gemini_batch.records import InputImage, InputUri, Request, Text, media_types
from tests.builders import make_call, sha256, tree
from tests.simulated import simulator

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
ORIENTATION = 0x0112
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(autouse=True)
def _no_real_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


def corners(width: int = 80, height: int = 40) -> Image.Image:
    """Return a picture with another colour in each corner: red and green above, blue and white below."""
    picture = Image.new("RGB", (width, height))
    for colour, at in ((RED, (0, 0)), (GREEN, (1, 0)), (BLUE, (0, 1)), (WHITE, (1, 1))):
        picture.paste(
            colour,
            (
                at[0] * width // 2,
                at[1] * height // 2,
                (at[0] + 1) * width // 2,
                (at[1] + 1) * height // 2,
            ),
        )
    return picture


def seen(file: str) -> list[tuple[int, ...]]:
    """Return the colours in the four corners of a file, as a viewer that ignores EXIF shows them, rounded to 0 or 255."""
    with Image.open(file) as picture:
        shown = picture.convert("RGB")
    across, down = shown.width // 4, shown.height // 4
    places = [(across, down), (3 * across, down), (across, 3 * down), (3 * across, 3 * down)]
    pixels: list[Any] = [shown.getpixel(place) for place in places]
    return [tuple(255 * round(value / 255) for value in pixel) for pixel in pixels]


def looked_up(file: Path, max_pixels: int) -> InputImage:
    """Return what validation knows of a file."""
    image = Inputs(file.parent, max_pixels).resolve(file.name)
    assert isinstance(image, InputImage)
    return image


def copy_of(file: Path, max_pixels: int = 800) -> InputImage:
    """Return the smaller copy of a file."""
    smaller = Downscaler(file.parent / "inputs").image(looked_up(file, max_pixels)).downscaled
    assert smaller is not None
    return smaller


def opened(image: InputImage) -> Image.Image:
    """Return the copy as Pillow reads it, with nothing left open."""
    with Image.open(image.file) as picture:
        picture.load()
        return picture


# --- which images -----------------------------------------------------------------------------------------------------


def test_only_images_with_more_pixels_are_made_smaller(tmp_path: Path) -> None:
    """An image of exactly N pixels is sent as it is, and nothing is ever made larger; without the flag nobody asks."""
    file = tmp_path / "a.png"
    corners(80, 40).save(file)
    assert looked_up(file, 3199).max_pixels == 3199
    assert (looked_up(file, 3199).width, looked_up(file, 3199).height) == (80, 40)
    as_it_is = Inputs(tmp_path).resolve("a.png")
    assert looked_up(file, 3200) == as_it_is
    assert looked_up(file, 10_000) == as_it_is
    assert Downscaler(tmp_path / "inputs").image(looked_up(file, 3200)) == as_it_is
    assert sorted(tree(tmp_path)) == ["a.png"]


def test_what_moves_is_sent_as_it_is(tmp_path: Path) -> None:
    """An animation would lose all but its first picture, so it is left alone."""
    frames = [corners(), corners().rotate(180)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert looked_up(tmp_path / name, 100).max_pixels is None


def test_formats_that_pillow_may_or_may_not_read_are_sent_as_they_are(tmp_path: Path) -> None:
    """HEIC, HEIF and AVIF pass untouched, also where this Pillow could read them: another one could not, and would pay again."""
    corners().save(tmp_path / "a.avif")
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    for name, mime_type in (("a.avif", "image/avif"), ("a.heic", "image/heic")):
        image = looked_up(tmp_path / name, 100)
        assert (image.mime_type, image.max_pixels) == (mime_type, None)


def test_an_image_whose_header_is_broken_is_left_to_the_api(tmp_path: Path) -> None:
    """What can't be measured is sent as it is, as without the flag."""
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
    """A few bytes that claim to be gigabytes are a sentence, not a full memory; and no matter without the flag."""
    file = tmp_path / "bomb.png"
    file.write_bytes(png_header(100_000, 100_000))
    with pytest.raises(InputImageError) as refused:
        looked_up(file, 1_000_000)
    assert str(refused.value) == (
        'got "bomb.png" of 100,000 by 100,000 pixels; --max-input-pixels can make images of up to 200 million pixels '
        "smaller: do it yourself, or upload it with the Files API and give its https:// URI"
    )
    assert isinstance(Inputs(tmp_path).resolve("bomb.png"), InputImage)
    file.write_bytes(png_header(20_000, 10_000))
    assert looked_up(file, 1_000_000).max_pixels == 1_000_000


def test_a_file_over_the_inline_limit_passes_when_its_copy_will_fit(tmp_path: Path) -> None:
    """What counts is what is sent: 80 MB of a large scan are 8 MB when a tenth of its pixels is sent."""
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
    """Whatever the size, the copy has at most so many pixels, and is as large as that allows in whole pixels."""
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


# --- what becomes of them ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp"])
def test_the_copy_is_upright(tmp_path: Path, extension: str, orientation: int) -> None:
    """Each of the eight ways to hold a camera gives a copy that is upright for who ignores EXIF, and has none."""
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
    """What a camera notes of where and when stays here; what colours mean is kept."""
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
    """EXIF that nobody can read is no reason not to send the image."""
    for name, exif in (("a.jpg", b"II*\0\xff\xff\xff\xff"), ("b.jpg", b"garbage garbage")):
        corners().save(tmp_path / name, exif=b"Exif\0\0" + exif)
        assert seen(copy_of(tmp_path / name).file) == [RED, GREEN, BLUE, WHITE]


def translucent(mode: str) -> Image.Image:
    """Return a picture whose left half can't be seen, in one of the ways that a PNG has for it."""
    picture = corners().convert("RGBA")
    picture.paste((0, 0, 0, 0), (0, 0, 40, 40))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "RGBA"), ("a.png", "LA"), ("a.png", "P"), ("a.webp", "RGBA"), ("a.gif", "RGBA")],
)
def test_alpha_is_kept(tmp_path: Path, name: str, mode: str) -> None:
    """What can't be seen in the original can't be seen in the copy, and what can is not darkened at its edge."""
    translucent(mode).save(tmp_path / name, lossless=True)
    small = copy_of(tmp_path / name)
    assert small.mime_type == ("image/webp" if name == "a.webp" else "image/png")
    shown = opened(small).convert("RGBA")
    left: Any = shown.getpixel((10, 10))
    right: Any = shown.getpixel((30, 5))
    assert (left[3], right[3]) == (0, 255)
    if mode != "LA":
        assert right[:3] == pytest.approx(GREEN, abs=8)


def test_one_colour_that_is_to_be_seen_through_is_kept(tmp_path: Path) -> None:
    """A PNG can name one colour as transparent in place of an alpha channel: also then nothing appears."""
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
def test_every_kind_of_picture_can_be_made_smaller(
    tmp_path: Path, name: str, mode: str, expected: str
) -> None:
    """Bits, greys of 8 and 16 bits, palettes, print colours: light stays light, dark dark, and the format is kept."""
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
    """A JPEG that is made much smaller is decoded at an eighth: a fraction of the time and memory."""
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
    """Its path, size, time and hash are those of the file that is uploaded; the original's stay the image's own."""
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
    """Only the images that are to be smaller change, and all parts keep their place."""
    corners().save(tmp_path / "large.png")
    corners(20, 10).save(tmp_path / "small.png")
    large, small = looked_up(tmp_path / "large.png", 800), looked_up(tmp_path / "small.png", 800)
    uri, shrinker = InputUri("https://x/a"), Downscaler(tmp_path / "inputs")
    request = shrinker.request(Request("m", (small, Text("x"), large, uri)))
    assert request == Request("m", (small, Text("x"), shrinker.image(large), uri))


def test_a_copy_is_made_once_and_reused_by_later_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same content, under any name, is decoded once for each N; a later run takes what is there, even of an older Pillow."""
    made = Mock(wraps=downscale._copy)
    monkeypatch.setattr(downscale, "_copy", made)
    corners().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    shrinker = Downscaler(tmp_path / "inputs")
    first = shrinker.image(looked_up(tmp_path / "a.png", 800))
    again = shrinker.image(looked_up(tmp_path / "b.png", 800))
    assert first.downscaled is not None
    assert again.downscaled == replace(first.downscaled, path="b.png")
    assert made.call_count == 1
    assert Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 800)) == first
    assert made.call_count == 1
    Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 700))
    assert made.call_count == 2


def test_a_copy_that_somebody_spoilt_is_made_anew(tmp_path: Path) -> None:
    """What is no image is never sent as one; a copy that was changed is described as it now is."""
    corners().save(tmp_path / "a.png")
    image, shrinker = looked_up(tmp_path / "a.png", 800), Downscaler(tmp_path / "inputs")
    first = shrinker.image(image).downscaled
    assert first is not None
    Path(first.file).write_bytes(b"")
    anew = shrinker.image(image).downscaled
    assert anew is not None
    assert (anew.sha256, anew.size_bytes) == (first.sha256, first.size_bytes)
    Path(first.file).unlink()
    assert shrinker.image(image).downscaled is not None
    corners(10, 5).save(first.file)
    changed = shrinker.image(image).downscaled
    assert changed is not None
    assert (changed.width, changed.sha256) == (10, sha256(Path(first.file).read_bytes()))


def test_a_copy_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is written leaves no half copy under its name, and the next run makes it."""
    corners().save(tmp_path / "a.png")
    image = looked_up(tmp_path / "a.png", 800)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Downscaler(tmp_path / "inputs").image(image)
    assert [path.suffix for path in (tmp_path / "inputs").iterdir()] == [".part"]
    assert Downscaler(tmp_path / "inputs").image(image).downscaled is not None
    assert [path.suffix for path in (tmp_path / "inputs").iterdir()] == [".png"]


def test_threads_make_one_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A style reference that all calls begin with is decoded by one of them, and the others wait for it."""
    corners().save(tmp_path / "a.png")
    image, shrinker = looked_up(tmp_path / "a.png", 800), Downscaler(tmp_path / "inputs")
    together, copy, made = threading.Barrier(4), downscale._copy, []

    def slow(*given: Any) -> bytes:
        made.append(given)
        time.sleep(0.05)
        return copy(*given)

    def one(_: int) -> InputImage:
        together.wait()
        return shrinker.image(image)

    monkeypatch.setattr(downscale, "_copy", slow)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, range(4)))
    assert len(made) == 1
    assert [result.downscaled for result in results] == [results[0].downscaled] * 4


def test_only_one_large_image_is_decoded_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large images take hundreds of megabytes each: they wait for each other, small ones don't."""
    monkeypatch.setattr(downscale, "LARGE_PIXELS", 3000)
    inside, most = [], 0

    def slow(*_: Any) -> bytes:
        nonlocal most
        inside.append(1)
        most = max(most, len(inside))
        time.sleep(0.03)
        inside.pop()
        return png_header(1, 1)

    monkeypatch.setattr(downscale, "_copy", slow)
    shrinker = Downscaler(tmp_path / "inputs")
    for number, size in enumerate([(80, 40)] * 3 + [(40, 40)] * 3):
        corners(*size).rotate(number).save(tmp_path / f"{number}.png")
    images = [looked_up(tmp_path / f"{number}.png", 800) for number in range(6)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(shrinker.image, images[:3]))
        assert most == 1
        list(pool.map(shrinker.image, images[3:]))
    assert most > 1


def test_memory_of_copies_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a number of copies they are forgotten, and looked at again when they are needed."""
    monkeypatch.setattr(downscale, "_MAX_REMEMBERED", 2)
    shrinker = Downscaler(tmp_path / "inputs")
    for number in range(5):
        corners(80 + number, 40).save(tmp_path / f"{number}.png")
        shrinker.image(looked_up(tmp_path / f"{number}.png", 800))
    assert len(shrinker._known) <= 2


# --- what can go wrong ------------------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_says_so(tmp_path: Path) -> None:
    """A photo that was cut off has a right header; the sentence names it, the reason, and what to do."""
    file = tmp_path / "cut.jpg"
    corners(400, 400).save(file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputImageError) as refused:
        copy_of(file)
    assert str(refused.value).startswith("cut.jpg: can't be decoded, and so not made smaller (")
    assert str(refused.value).endswith("): mend it, or leave --max-input-pixels out")
    assert not isinstance(refused.value, ImageChangedError)


def test_an_image_that_changed_since_it_was_planned_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that is gone or was edited before its turn, nor one that is edited while it is read."""
    file = tmp_path / "a.png"
    corners().save(file)
    image, shrinker = looked_up(file, 800), Downscaler(tmp_path / "inputs")
    changed = "^a.png: changed since the run began; run again$"

    def edit(*_: Any) -> bytes:
        os.utime(file, ns=(0, 0))
        return b""

    with monkeypatch.context() as patched:
        patched.setattr(downscale, "_copy", edit)
        with pytest.raises(ImageChangedError, match=changed):
            shrinker.image(image)
    with pytest.raises(ImageChangedError, match=changed):
        shrinker.image(image)
    file.unlink()
    with pytest.raises(
        ImageChangedError, match=r"^a.png: can't be read any more: No such file or directory$"
    ):
        shrinker.image(image)
    assert not (tmp_path / "inputs").exists()


def test_a_disk_that_takes_no_copy_is_a_matter_of_the_folder(tmp_path: Path) -> None:
    """It is no fault of the image: the run is to stop, and no job is to blame."""
    corners().save(tmp_path / "a.png")
    (tmp_path / "inputs").write_bytes(b"in the way")
    with pytest.raises(StorageError, match=r"inputs/[0-9a-f]{64}-800.png: can't be written: "):
        Downscaler(tmp_path / "inputs").image(looked_up(tmp_path / "a.png", 800))


async def test_the_event_loop_never_decodes_and_few_threads_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many calls at once: copies are made in threads, at most so many at a time, and calls without large images wait for none."""
    corners().save(tmp_path / "large.png")
    image = looked_up(tmp_path / "large.png", 800)
    at_work: list[threading.Thread] = []
    most = 0

    def slow(_shrinker: Downscaler, request: Request) -> Request:
        nonlocal most
        at_work.append(threading.current_thread())
        most = max(most, len(at_work))
        assert at_work[-1] is not threading.main_thread()
        time.sleep(0.02)
        at_work.pop()
        return request

    monkeypatch.setattr(Downscaler, "request", slow)
    unused: Any = None
    prepare = Preparation(unused, unused, Clock(), unused, shrinker=Downscaler(tmp_path / "inputs"))
    large = replace(make_call(), request=Request("m", (image, Text("x"))))
    plain = make_call("plain")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(prepare(large, 1)) for _ in range(4 * SHRINKS_AT_ONCE)]
        await asyncio.sleep(0.005)
        assert await prepare(plain, 1) is plain
        assert not any(task.done() for task in tasks)
    assert most == SHRINKS_AT_ONCE


# --- from end to end --------------------------------------------------------------------------------------------------


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of one job with a large photo, a small picture, and a URI."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    corners(400, 200).save(tmp_path / "large.jpg")
    corners(20, 10).save(tmp_path / "small.png")
    images = ["large.jpg", "small.png", "https://example.org/a.png"]
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(orjson.dumps({"id": "robot", "prompt": "A robot", "images": images}) + b"\n")
    return path


FLAGS = ["--max-input-pixels", "800", "--rpm", "6000"]


@pytest.mark.loopback
def test_the_smaller_copy_is_sent_and_the_row_says_so(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server gets the copy, the row names both, and a second run, and one without copies, has nothing to do."""
    monkeypatch.setattr(OutputFolder, "clear_inputs", lambda _store: None)
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        assert main(command) == 0
        out = job.parent / "jobs.out"
        row = orjson.loads((out / "results.jsonl").read_bytes())
        large, small, uri = row["inputs"]
        (copy,) = (out / ".gemini_batch/inputs").iterdir()
        assert large == {
            "path": "large.jpg",
            "sha256": sha256((job.parent / "large.jpg").read_bytes()),
            "sent": {
                "mime_type": "image/jpeg",
                "size_bytes": copy.stat().st_size,
                "width": 40,
                "height": 20,
                "sha256": sha256(copy.read_bytes()),
            },
        }
        assert small == {
            "path": "small.png",
            "sha256": sha256((job.parent / "small.png").read_bytes()),
            "sent": None,
        }
        assert uri == {"path": "https://example.org/a.png", "sha256": None, "sent": None}
        (entry,) = server.audit.entries
        assert entry.http_status == 200
        copy.unlink()
        assert main(command) == 0
        assert len(server.audit.entries) == 1


@pytest.mark.loopback
def test_copies_stay_for_as_long_as_a_call_may_need_them(job: Path) -> None:
    """A run that is stopped leaves them to the next one; when all calls have ended they are gone."""
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        job.write_bytes(job.read_bytes().replace(b"A robot", b"A robot [[fault:429-day x1]]"))
        assert main(command) == 5
        assert len(list((job.parent / "jobs.out/.gemini_batch/inputs").iterdir())) == 1
        assert main([*command, "--quota-scope", "another"]) == 0
        assert not (job.parent / "jobs.out/.gemini_batch/inputs").exists()


@pytest.mark.loopback
def test_what_is_sent_is_the_copy(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The body has the copy's base64 and not the original's."""
    from gemini_batch.client import upload

    sent: list[str] = []
    opened_ = upload.Upload._opened

    def noted(self: upload.Upload, image: InputImage) -> Any:
        sent.append(image.file)
        return opened_(self, image)

    monkeypatch.setattr(upload.Upload, "_opened", noted)
    with simulator() as server:
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 0
    assert [Path(file).parent.name for file in sent] == ["inputs", job.parent.name]


@pytest.mark.loopback
def test_another_pillow_pays_for_nothing_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that makes other bytes of the same image makes no other request of it."""
    with simulator() as server:
        command = ["run", str(job), "--base-url", server.base_url, *FLAGS]
        assert main(command) == 0
        monkeypatch.setattr(downscale, "_copy", lambda *_: pytest.fail("nothing is to be sent"))
        monkeypatch.setitem(downscale._SAVED_AS, "image/jpeg", {"format": "JPEG", "quality": 10})
        assert main(command) == 0
        assert len(server.audit.entries) == 1


@pytest.mark.loopback
def test_an_undecodable_image_fails_its_call_alone_and_nothing_is_sent(job: Path) -> None:
    """Exit 4, a row that says why with no attempt made, and the other jobs go on."""
    large = job.parent / "large.jpg"
    corners(400, 400).save(large)
    large.write_bytes(large.read_bytes()[:-200])
    with job.open("ab") as more:
        more.write(b'{"id": "cat", "prompt": "A cat"}\n')
    with simulator() as server:
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 4
        assert [entry.prompt for entry in server.audit.entries] == ["A cat"]
    rows = [
        orjson.loads(line)
        for line in (job.parent / "jobs.out/results.jsonl").read_bytes().splitlines()
    ]
    (row,) = [row for row in rows if row["id"] == "robot"]
    assert (row["status"], row["attempts"], row["cost_usd"]) == ("failed", 0, 0.0)
    assert row["error"]["status"] == "INPUT_UNREADABLE"
    assert row["error"]["message"].startswith(
        "large.jpg: can't be decoded, and so not made smaller ("
    )


@pytest.mark.loopback
def test_copies_that_are_still_too_large_together_are_not_sent(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan's estimate can be wrong; the limit is held by what there really is."""
    with simulator() as server:
        monkeypatch.setattr(downscale, "_copy", lambda *_: (job.parent / "large.jpg").read_bytes())
        monkeypatch.setattr(media_types, "MAX_INLINE_BYTES", 1000)
        assert main(["run", str(job), "--base-url", server.base_url, *FLAGS]) == 4
        assert list(server.audit.entries) == []
    row = orjson.loads((job.parent / "jobs.out/results.jsonl").read_bytes())
    assert row["error"]["status"] == "TOO_LARGE"
    assert row["error"]["message"].endswith("allowed: 0 MB a request: set --max-input-pixels lower")


def test_plan_says_what_it_saves_and_writes_nothing(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By headers alone: how many images, their bytes, and about how many are sent in their place."""
    size_bytes = (job.parent / "large.jpg").stat().st_size
    assert main(["plan", str(job), "--json", *FLAGS]) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["made_smaller"] == {
        "images": 1,
        "size_bytes": size_bytes,
        "upload_bytes": -(-size_bytes // 100),
    }
    assert main(["plan", str(job), *FLAGS]) == 0
    assert (
        "  inputs  1 image made smaller: about 0.0 MB to send in place of 0.0 MB\n"
        in capsys.readouterr().out
    )
    assert main(["plan", str(job), "--rpm", "6000"]) == 0
    assert "made smaller" not in capsys.readouterr().out
    assert sorted(path.name for path in job.parent.iterdir()) == [
        "jobs.jsonl",
        "large.jpg",
        "small.png",
    ]


def test_validation_reads_each_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its turn an image is known by its path, size, time and inode: nothing is read or decoded on the event loop."""
    corners().save(tmp_path / "a.png")
    measured = Mock(wraps=downscale.pixels)
    monkeypatch.setattr(downscale, "pixels", measured)
    known = Inputs(tmp_path, 800)
    assert known.resolve("a.png") is known.resolve("a.png")
    assert measured.call_count == 1
