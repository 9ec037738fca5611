"""`BucketAddress`: the URL of a place in object storage, such as `s3://bucket/prefix`. Pure."""

import re
from dataclasses import dataclass
from typing import Self

SCHEMES = ("s3", "az", "gs", "file")
_ALLOWED = "allowed: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX"
# Any scheme with both slashes, and those of buckets, as other programs spell them, without.
_is_url = re.compile(
    r"[a-z][a-z0-9+.-]*://|(s3[an]?|az|gs|gcs|abfss?|azure):|file:/", re.IGNORECASE
).match
# Of S3, Azure and Google Cloud Storage alike, 3 to 63 characters; Google's may have "_" as well.
_is_bucket = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]").fullmatch


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """A bucket and a prefix in it, or the name of one object.

    Attributes:
        scheme: `s3`, `az`, `gs`, or `file` for a folder that stands in for a bucket.
        bucket: Its name; "" for `file`.
        prefix: Without a slash at either end; for `file` the absolute path of the folder.
    """

    scheme: str
    bucket: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that a text names.

        Raises:
            ValueError: It is none; the text says what is allowed, and does not repeat a query,
                which may be a signature.
        """
        scheme, _, rest = text.partition("://")
        scheme = scheme.lower()
        if any(mark in text for mark in "?#@\\") or re.search(r"[\x00-\x1f\x7f]", text):
            raise ValueError(f"has a query, a user name or a control character; {_ALLOWED}")
        if scheme not in SCHEMES or not rest:
            raise ValueError(f'got "{text}"; {_ALLOWED}')
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.rstrip("/")
        if {"", ".", ".."} & set(prefix.split("/")) and prefix:
            raise ValueError(f'got "{text}"; no part between slashes may be empty, "." or ".."')
        if scheme == "file":
            if bucket or not prefix:
                raise ValueError(f'got "{text}"; allowed: file:///FOLDER')
            return cls(scheme, "", f"/{prefix}")
        if not _is_bucket(bucket):
            raise ValueError(
                f'got "{text}"; the name of a bucket has 3 to 63 lower-case letters, digits, '
                '"-" and "."'
            )
        return cls(scheme, bucket, prefix)

    def __str__(self) -> str:
        """Return the URL."""
        if self.scheme == "file":
            return f"file://{self.prefix}"
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def parent(self) -> Self:
        """The address without the last part of its prefix."""
        return type(self)(self.scheme, self.bucket, self.prefix.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last part of the prefix."""
        return self.prefix.rpartition("/")[2]


def is_address(text: str) -> bool:
    """Return whether a text is meant as the address of a bucket, a misspelled one included."""
    return _is_url(text) is not None
