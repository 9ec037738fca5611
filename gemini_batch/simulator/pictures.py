"""Images of answers: a seeded landscape with the prompt and the reference images on it.

All functions block; the server calls them in a thread. The same request, seed and variation give
the same bytes.
"""

import io
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageChops, ImageDraw, ImageOps

from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.lettering import fitting, write
from gemini_batch.simulator.markers import without_markers
from gemini_batch.simulator.padding import padded
from gemini_batch.simulator.references import BAD_IMAGE, Reference

JPEG_QUALITY = 86
_GRAIN = 5  # maximum noise of a pixel, of 255: real images don't compress like flat ones
_DRAWN_PIXELS = 1280  # longest side of the landscape before it is scaled
_GLOW_EDGE = 179  # value of Pillow's radial gradient at the middle of a side


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An encoded image and its type."""

    data: bytes
    mime_type: str


def draw(
    image_request: ImageRequest,
    *,
    seed: int = 0,
    variation: int = 0,
    longest: int | None = None,
    image_bytes: int | None = None,
) -> EncodedImage:
    """Draw the requested image.

    Args:
        image_request: The checked request.
        seed: The server's seed.
        variation: 0 for the first answer to this request.
        longest: Longest side in pixels; None is the documented size.
        image_bytes: Pad the file to this size; None adds no padding.
    """
    ratio = image_request.aspect_ratio or _own_ratio(image_request)
    size = image_request.model.dimensions(ratio, image_request.image_size)
    if longest is not None:
        scale = longest / max(size)
        size = max(8, round(size[0] * scale)), max(8, round(size[1] * scale))
    rng = random.Random(f"{seed}/{image_request.sha256}/{image_request.seed}/{variation}")
    canvas = _landscape(size, rng)
    if min(size) >= 128:
        _paste_references(canvas, image_request.references)
        footer = (
            f"simulated · {image_request.model.id} · {ratio} · {image_request.image_size} · "
            f"{size[0]}x{size[1]}"
        )
        write(
            canvas,
            without_markers(image_request.prompt),
            footer + (f" · variation {variation + 1}" if variation else ""),
        )
    return EncodedImage(
        padded(_encode(canvas, image_request.model.mime_type), image_bytes),
        image_request.model.mime_type,
    )


def _encode(canvas: Image.Image, mime_type: str) -> bytes:
    file = io.BytesIO()
    if mime_type == "image/png":
        canvas.save(file, "PNG", compress_level=1)
    else:
        canvas.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _own_ratio(image_request: ImageRequest) -> str:
    """Return the default ratio: that of the first reference image, or a square."""
    for reference in image_request.references:
        shape = reference.size()
        if shape:
            wanted = math.log(shape[0] / shape[1])
            pixels = image_request.model.pixels
            return min(
                pixels, key=lambda name: abs(math.log(pixels[name][0] / pixels[name][1]) - wanted)
            )
    return "1:1"


# --- background -----------------------------------------------------------------------------------


def _hsl(hue: float, saturation: float, lightness: float) -> tuple[int, int, int]:
    from colorsys import hls_to_rgb

    red, green, blue = hls_to_rgb(hue % 1.0, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _landscape(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Return a sky with a sun and rows of hills, in related colours."""
    width, height = size
    # Drawn without anti-aliasing, halved and scaled up smoothly: soft edges at little cost.
    scale = max(1.0, max(size) / _DRAWN_PIXELS)
    small = max(8, round(width / scale)), max(8, round(height / scale))
    hue = rng.random()
    canvas = _gradient(small, _hsl(hue, 0.62, 0.42), _hsl(hue + 0.09, 0.72, 0.80))
    _sun(canvas, rng, _hsl(hue + 0.12, 0.9, 0.9))
    rows = rng.randint(4, 6)
    for row in range(rows):
        depth = (row + 1) / rows
        tone = _hsl(hue + 0.03 * row + 0.45 * (rng.random() < 0.15), 0.42, 0.66 - 0.46 * depth)
        _hills(canvas, rng, small[1] * (0.42 + 0.5 * depth * depth), small[1] * 0.10, tone)
    if max(size) >= _DRAWN_PIXELS // 4:
        canvas = canvas.reduce(2)
    return _grain(canvas.resize(size, Image.Resampling.BICUBIC), rng)


def _gradient(
    size: tuple[int, int], top: tuple[int, int, int], bottom: tuple[int, int, int]
) -> Image.Image:
    return Image.composite(
        Image.new("RGB", size, bottom), Image.new("RGB", size, top), _gradient_mask(size)
    )


@lru_cache(maxsize=8)
def _gradient_mask(size: tuple[int, int]) -> Image.Image:
    return Image.linear_gradient("L").resize(size)


def _sun(canvas: Image.Image, rng: random.Random, tone: tuple[int, int, int]) -> None:
    width, height = canvas.size
    at = width * rng.uniform(0.15, 0.85), height * rng.uniform(0.12, 0.4)
    radius = min(width, height) * rng.uniform(0.07, 0.13)
    side = round(radius * 9)
    corner = round(at[0] - side / 2), round(at[1] - side / 2)
    canvas.paste(tone, (*corner, corner[0] + side, corner[1] + side), _glow(side))
    ImageDraw.Draw(canvas).ellipse(
        [at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=tone
    )


@lru_cache(maxsize=32)
def _glow(side: int) -> Image.Image:
    """Return a square whose edges are dark, so that they don't show."""
    glow = Image.radial_gradient("L").point(
        lambda far: max(0, _GLOW_EDGE - far) ** 2 * 160 // _GLOW_EDGE**2
    )
    return glow.resize((side, side))


def _hills(
    canvas: Image.Image, rng: random.Random, base: float, swing: float, tone: tuple[int, int, int]
) -> None:
    width, height = canvas.size
    waves = [
        (rng.uniform(0.6, 1.6) * power, rng.uniform(0, math.tau), 1 / power) for power in (1, 2, 4)
    ]
    step = max(1, width // 160)
    crest = [
        (
            x,
            base
            + swing
            * sum(
                share * math.sin(pace * math.tau * x / width + start)
                for pace, start, share in waves
            ),
        )
        for x in range(0, width + step, step)
    ]
    ImageDraw.Draw(canvas).polygon([(0, height), *crest, (width + step, height)], fill=tone)


@lru_cache(maxsize=4)
def _grain_tile(seed: int) -> Image.Image:
    noise = Image.frombytes("L", (256, 256), random.Random(seed).randbytes(256 * 256))
    return noise.point(lambda value: 128 - _GRAIN + value * 2 * _GRAIN // 255)


def _grain(canvas: Image.Image, rng: random.Random) -> Image.Image:
    tile = _grain_tile(rng.randrange(4))
    noise = Image.new("L", canvas.size)
    for x in range(0, canvas.width, tile.width):
        for y in range(0, canvas.height, tile.height):
            noise.paste(tile, (x, y))
    return ImageChops.add(canvas, Image.merge("RGB", (noise, noise, noise)), 1.0, -128)


# --- reference images -----------------------------------------------------------------------------


def _paste_references(canvas: Image.Image, references: Sequence[Reference]) -> None:
    """Paste the reference images in rows, like photographs."""
    if not references:
        return
    width, height = canvas.size
    columns = min(
        len(references), max(1, round(math.sqrt(len(references) * width / (height * 0.6))))
    )
    rows = math.ceil(len(references) / columns)
    gap = round(min(width, height) * 0.03)
    cell = min(
        (width - gap * (columns + 1)) // columns, (round(height * 0.60) - gap * (rows + 1)) // rows
    )
    for place, reference in enumerate(references):
        row, column = divmod(place, columns)
        in_row = min(columns, len(references) - row * columns)
        left = (width - in_row * cell - (in_row - 1) * gap) // 2 + column * (cell + gap)
        photo = _photo(reference, cell)
        where = (
            left + (cell - photo.width) // 2,
            gap + row * (cell + gap) + (cell - photo.height) // 2,
        )
        shadow = Image.new("L", (photo.width, photo.height), 90)
        canvas.paste((0, 0, 0), (where[0] + gap // 5, where[1] + gap // 4), shadow)
        canvas.paste(photo, where)


def _photo(reference: Reference, side: int) -> Image.Image:
    """Return a reference image with a white border, at most `side` pixels wide and high."""
    border = max(2, side // 36)
    inside = max(4, side - 2 * border)
    try:
        with Image.open(io.BytesIO(reference.data)) as image:
            image.draft("RGB", (inside, inside))
            turned = ImageOps.exif_transpose(image).convert("RGBA")
        turned = ImageOps.contain(turned, (inside, inside), Image.Resampling.BICUBIC)
        photo = Image.new("RGB", turned.size, (236, 236, 236))
        photo.paste(turned, mask=turned)
    except BAD_IMAGE:
        # A URI, HEIC or a truncated file: draw a placeholder.
        photo = Image.new("RGB", (inside, inside), (222, 226, 230))
        label = reference.uri.rpartition("/")[2][:24] or "image"
        label, font = fitting(label, max(10, inside // 10), round(inside * 0.9))
        ImageDraw.Draw(photo).text(
            (inside / 2, inside / 2), label, (90, 90, 100), font, anchor="mm"
        )
    return ImageOps.expand(photo, border, (252, 252, 250))
