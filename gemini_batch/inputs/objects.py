"""Fetches reference images that are in buckets, before they are sent."""

import hashlib
from dataclasses import replace
from pathlib import Path

from gemini_batch.errors import StorageError, describe_os_error
from gemini_batch.inputs.downscale import Downscaler
from gemini_batch.inputs.errors import ImageChangedError
from gemini_batch.inputs.lookup import image_in
from gemini_batch.inputs.object_lookup import store_of
from gemini_batch.records import InputImage, Request
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import NoObjectError


class ObjectFetcher:
    """Fetches the images of requests that are in buckets, once each. It blocks.

    Args:
        folder: Where copies go until the run has ended.
        max_pixels: Larger images are downscaled; None is never.
    """

    def __init__(self, folder: Path, max_pixels: int | None) -> None:
        self._folder = folder
        self._max_pixels = max_pixels
        self._downscaler = Downscaler(folder)

    def request(self, request: Request) -> Request:
        """Return the request with the copy of each image that is in a bucket.

        Raises:
            InputImageError: It is not an image.
            ImageChangedError: It is not the object that was planned.
            StorageError: The bucket, or the folder, can't be used.
        """
        parts = (
            self._fetched(part) if isinstance(part, InputImage) and part.version else part
            for part in request.parts
        )
        return replace(request, parts=tuple(parts))

    def _fetched(self, image: InputImage) -> InputImage:
        name = hashlib.sha256(f"{image.path} {image.version}".encode()).hexdigest()
        file = self._folder / f"{name}.object"
        if not file.exists():
            self._fetch(image, file)
        copy = self._downscaler.image(image_in(image.path, file, self._max_pixels))
        return replace(image, downscaled=copy.downscaled or copy)

    def _fetch(self, image: InputImage, file: Path) -> None:
        address = BucketAddress.parse(image.path)
        try:
            found = store_of(address.scheme, address.bucket).get(address.prefix)
        except NoObjectError as error:
            raise ImageChangedError(f"{image.path}: was removed after the run began") from error
        if found.version.strip('"') != image.version:
            raise ImageChangedError(f"{image.path}: changed since the run began; run again")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part")
            part.write_bytes(found.data)
            part.rename(file)
        except OSError as error:
            raise StorageError(f"{file}: can't be written: {describe_os_error(error)}") from error


def is_in_bucket(request: Request) -> bool:
    """Return whether an image of a request must be fetched before it is sent."""
    return any(
        isinstance(part, InputImage) and part.version and part.downscaled is None
        for part in request.parts
    )
