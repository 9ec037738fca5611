"""Image formats: detection by a file's first bytes, extensions, and the size limit of a request."""

from typing import Literal

# PNG, JPEG, WebP, HEIC and HEIF are documented inputs; GIF and AVIF are in Google's discovery
# schema: https://ai.google.dev/gemini-api/docs/image-understanding (collected 2026-11-22).
EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/heic": ".heic",
    "image/heif": ".heif",
    "image/gif": ".gif",
    "image/avif": ".avif",
}
UNKNOWN_EXTENSION = ".bin"
ALL_EXTENSIONS = (*EXTENSIONS.values(), UNKNOWN_EXTENSION)
HEAD_BYTES = 64
_SIZE_END = 30  # no format of `head_pixels` has its size later
# 100 MB per request, in base64:
# https://ai.google.dev/gemini-api/docs/image-understanding (2026-11-22).
MAX_INLINE_BYTES = 100_000_000

_MIME_OF_EXTENSION = {extension: mime_type for mime_type, extension in EXTENSIONS.items()} | {
    ".jpeg": "image/jpeg"
}
_PNG = b"\x89PNG\r\n\x1a\n"
_MAGIC = (
    (_PNG, "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
# Brands of the ISO base media "ftyp" box: https://nokiatech.github.io/heif/technical.html and the
# AVIF specification.
_MIME_OF_BRAND = (
    ({b"avif", b"avis"}, "image/avif"),
    ({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}, "image/heic"),
    ({b"mif1", b"msf1", b"mif2"}, "image/heif"),
)


def sniff(head: bytes) -> str | None:
    """Return the MIME type of an image by its first `HEAD_BYTES` bytes, or None if unknown."""
    for magic, mime_type in _MAGIC:
        if head.startswith(magic):
            return mime_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        # The major brand, a version, then the compatible brands.
        box = head[: int.from_bytes(head[:4], "big")]
        brands = {box[at : at + 4] for at in (8, *range(16, len(box) - 3, 4))}
        return next((mime_type for known, mime_type in _MIME_OF_BRAND if brands & known), None)
    return None


def head_pixels(head: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, GIF or WebP from its first `HEAD_BYTES` bytes.

    None for any other image, and for one without a size.
    """
    size: tuple[int, int] | None = None
    match sniff(head), head[12:16]:
        case "image/png", b"IHDR":
            size = _number(head[16:20], "big"), _number(head[20:24], "big")
        case "image/gif", _:
            size = _number(head[6:8]), _number(head[8:10])
        # https://developers.google.com/speed/webp/docs/riff_container (2026-11-30), and RFC 6386
        # and 9649 for the two bitstreams.
        case "image/webp", b"VP8X":
            size = _number(head[24:27]) + 1, _number(head[27:30]) + 1
        case "image/webp", b"VP8L" if head[20:21] == b"\x2f":
            bits = _number(head[21:25])
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case "image/webp", b"VP8 " if head[23:26] == b"\x9d\x01\x2a":
            size = _number(head[26:28]) & 0x3FFF, _number(head[28:30]) & 0x3FFF
        case _:
            pass
    return size if size and all(size) and len(head) >= _SIZE_END else None


def _number(data: bytes, order: Literal["big", "little"] = "little") -> int:
    return int.from_bytes(data, order)


def base64_bytes(size_bytes: int) -> int:
    """Return the size of a file in a request."""
    return 4 * -(-size_bytes // 3)


def extension(mime_type: str | None) -> str:
    """Return the file extension for a MIME type, dot included; `.bin` for an unknown one."""
    return EXTENSIONS.get(mime_type or "", UNKNOWN_EXTENSION)


def guess_mime_type(name: str) -> str | None:
    """Return the MIME type of a name's extension; only for URIs, whose bytes are out of reach."""
    dot = name.rfind(".")
    return _MIME_OF_EXTENSION.get(name[dot:].lower()) if dot >= 0 else None
