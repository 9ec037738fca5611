"""Image formats: detection by a file's first bytes, extensions, and the size limit of a request."""

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
HEAD_BYTES = 64
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


def png_pixels(head: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG from its first bytes; None for any other image."""
    if not head.startswith(_PNG) or head[12:16] != b"IHDR":
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


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
