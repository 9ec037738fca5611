from io import BytesIO

import pytest
from PIL import Image

from gemini_batch.records.media_types import (
    EXTENSIONS,
    HEAD_BYTES,
    extension,
    guess_mime_type,
    head_pixels,
    sniff,
)


def box(*brands: bytes) -> bytes:
    """Return an "ftyp" box: major brand, version, compatible brands."""
    content = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return (8 + len(content)).to_bytes(4, "big") + b"ftyp" + content


HEADS = {
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
    "gif": (b"GIF89a\1\0\1\0", "image/gif"),
    "old gif": (b"GIF87a\1\0\1\0", "image/gif"),
    "webp": (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
    "wav": (b"RIFF\x24\0\0\0WAVEfmt ", None),
    "heic": (box(b"heic", b"mif1", b"heic"), "image/heic"),
    "heic by a compatible brand": (box(b"mif1", b"mif1", b"heix"), "image/heic"),
    "heif": (box(b"mif1", b"mif1"), "image/heif"),
    "avif": (box(b"avif", b"mif1", b"miaf"), "image/avif"),
    "avif by a compatible brand": (box(b"mif1", b"miaf", b"avif"), "image/avif"),
    "mp4": (box(b"isom", b"isom", b"mp41"), None),
    "brand past its box": (box(b"isom", b"mp41") + b"heic", None),
    "a version that looks like a brand": (b"\0\0\0\x14ftypisomheicmp41", None),
    "pdf": (b"%PDF-1.7", None),
    "svg": (b"<svg xmlns=", None),
    "empty": (b"", None),
    "short": (b"\x89PN", None),
    "cut box": (b"\0\0\0\x18ftypmi", None),
}


@pytest.mark.parametrize("name", HEADS)
def test_first_bytes_show_the_format(name: str) -> None:
    """A file's format is found by its first bytes; None if they show no image."""
    head, mime_type = HEADS[name]
    assert sniff(head) == mime_type
    assert sniff((head + b"\0" * HEAD_BYTES)[:HEAD_BYTES]) == mime_type


def test_every_format_has_an_extension_that_leads_back() -> None:
    """MIME type and extension belong together; an unknown type is `.bin`."""
    assert {guess_mime_type(f"a{extension(mime_type)}") for mime_type in EXTENSIONS} == set(
        EXTENSIONS
    )
    assert extension("image/jpeg") == ".jpg"
    assert extension("image/x-new") == extension(None) == ".bin"
    assert guess_mime_type("a.JPEG") == "image/jpeg"
    assert guess_mime_type("a.b/c") is None
    assert guess_mime_type("jpg") is None


def test_the_first_bytes_of_a_png_have_its_size() -> None:
    """Width and height are in the header; None for another image or a truncated header."""
    file = BytesIO()
    Image.new("RGB", (300, 7)).save(file, "PNG")
    assert head_pixels(file.getvalue()[:64]) == (300, 7)
    assert head_pixels(b"\xff\xd8\xff" + bytes(61)) is None
    assert head_pixels(file.getvalue()[:12]) is None
