"""Looks up reference images in buckets: they are not read before they are sent."""

from functools import cache

from gemini_batch.inputs.errors import InputImageError
from gemini_batch.records import InputImage, media_types
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import ImageStore, NoObjectError
from gemini_batch.store.opening import open_store
from gemini_batch.wording import shown


def look_up(uri: str, max_pixels: int | None) -> InputImage:
    """Return the image at an address, which is not read.

    Raises:
        InputImageError: It is not an address, or there is no such object.
        StorageError: The bucket can't be used.
    """
    try:
        address = BucketAddress.parse(uri)
    except ValueError as error:
        raise InputImageError(str(error)) from error
    if not address.prefix:
        raise InputImageError(f"got {shown(uri)}; names a bucket, and no image in it")
    try:
        found = store_of(address.scheme, address.bucket).head(address.prefix)
    except NoObjectError as error:
        raise InputImageError(f"got {shown(uri)}; there is no such object") from error
    if not found.size_bytes:
        raise InputImageError(f"got {shown(uri)}; the object is empty")
    return InputImage(
        path=uri,
        file="",
        mime_type=media_types.guess_mime_type(address.prefix) or "",
        size_bytes=found.size_bytes,
        mtime_ns=0,
        sha256="",
        max_pixels=max_pixels,
        version=found.version.strip('"'),
    )


@cache
def store_of(scheme: str, bucket: str) -> ImageStore:
    """Return the store of a bucket, one for all images."""
    return open_store(BucketAddress(scheme, bucket, ""))
