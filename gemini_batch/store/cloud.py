"""`CloudStore`: a bucket of S3, Azure or Google Cloud Storage, by obstore.

Address, credentials and region come from the usual variables of each cloud, as obstore reads them.
"""

import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from gemini_batch.errors import ConfigError
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import (
    NO_NOTES,
    ConflictError,
    Content,
    Entry,
    NoObjectError,
    Stored,
    StoreRefusedError,
    StoreUnavailableError,
)
from gemini_batch.store.secrets import without_secrets

_NO_EXTRA = "needs the extra `bucket`, which is not installed: pip install 'gemini_batch[bucket]'"
_BLOCK_BYTES = 1 << 20
# Of a transient fault the caller tries again, with its own patience: obstore's retries only bridge
# a connection that was closed.
_RETRIES, _RETRY_S = 2, 5
_CONNECT_S = 5
_DENIED = "access is denied"
# What the bodies of errors name, where waiting does not help: codes of S3 and Azure.
_REFUSALS = {
    "NoSuchBucket": "there is no such bucket",
    "ContainerNotFound": "there is no such container",
    "AccessDenied": _DENIED,
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is wrong",
    "AuthorizationHeaderMalformed": "the region is wrong (AWS_REGION)",
    "PermanentRedirect": "the bucket is in another region (AWS_REGION)",
    "AuthenticationFailed": "the account key or signature is wrong",
    "AuthorizationFailure": _DENIED,
    "AuthorizationPermissionMismatch": _DENIED,
    "InvalidBucketName": "a bucket can't have this name",
}
# Without credentials obstore asks the metadata server of a cloud's machine.
_NO_CREDENTIALS = ("169.254.169.254", "MissingCredential")
_ADVICE = (
    "no credentials were found: set those of the cloud in the environment, such as "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
_MULTIPART_TASKS = 2  # each has a part of 5 MiB in memory


class CloudStore:
    """An `ImageStore` below one address.

    Args:
        address: Bucket and prefix.
        timeout_s: The longest that one request may take.

    Raises:
        ConfigError: obstore is not installed, or the environment does not say enough.
    """

    def __init__(self, address: BucketAddress, timeout_s: float = 120.0) -> None:
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise ConfigError(f"{address}: {_NO_EXTRA}") from error
        self.shown = str(address)
        self._library = obstore
        self._errors = obstore.exceptions
        try:
            self._store = from_url(
                str(address),
                # Options given here take the place of those in the environment.
                client_options={
                    "allow_http": _allows_http(address.scheme),
                    "timeout": timedelta(seconds=timeout_s),
                    "connect_timeout": timedelta(seconds=_CONNECT_S),
                },
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=_RETRY_S),
                },
                **_payload_options(address.scheme),
            )
        except self._errors.BaseError as error:
            raise ConfigError(f"{address}: can't be used: {_first_line(error)}") from error

    def create(self, name: str, data: Content, notes: Mapping[str, str] = NO_NOTES) -> str:
        """Write a new object; return its version."""
        return self._put(name, data, notes, "create")

    def replace(
        self, name: str, data: Content, version: str, notes: Mapping[str, str] = NO_NOTES
    ) -> str:
        """Write an object that still has this version; return its new one."""
        return self._put(name, data, notes, {"e_tag": version})

    def put(self, name: str, data: bytes | Path) -> None:
        """Write an object, or the content of a file, over any earlier one."""
        try:
            self._library.put(self._store, name, data, max_concurrency=_MULTIPART_TASKS)
        except Exception as error:  # obstore's errors have no one base
            raise self._failed(name, error) from error

    def get(self, name: str) -> Stored:
        """Return an object."""
        found = self._get(name)
        try:
            data = bytes(found.bytes())
        except Exception as error:
            raise self._failed(name, error) from error
        return Stored(data, found.meta["e_tag"] or "", _texts(found.attributes), len(data))

    def head(self, name: str) -> Stored:
        """Return an object without its data."""
        # A head of obstore has no attributes; an empty object has no first byte.
        try:
            found = self._get(name, {"range": (0, 1)})
        except StoreUnavailableError:
            found = self._get(name)
        meta = found.meta
        return Stored(b"", meta["e_tag"] or "", _texts(found.attributes), meta["size"])

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in blocks."""
        found = self._get(name)
        try:
            for block in found.stream(min_chunk_size=_BLOCK_BYTES):
                yield bytes(block)
        except Exception as error:
            raise self._failed(name, error) from error

    def copy(self, name: str, new_name: str) -> None:
        """Copy an object with its notes."""
        try:
            self._library.copy(self._store, name, new_name)
        except Exception as error:
            raise self._failed(name, error) from error

    def list(self, prefix: str) -> Iterator[Entry]:
        """Yield the objects whose names begin with a folder."""
        try:
            found = [
                Entry(each["path"], each["size"], each["last_modified"])
                for group in self._library.list(self._store, prefix or None, chunk_size=1000)
                for each in group
            ]
        except Exception as error:
            raise self._failed(prefix, error) from error
        yield from sorted(found, key=lambda entry: entry.name)  # Azure's order is its own

    def remove(self, name: str) -> None:
        """Remove an object; idempotent."""
        try:
            self._library.delete(self._store, name)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise self._failed(name, error) from error

    def sign(self, name: str, expires_s: float) -> str:
        """Return an https address from which anyone can read an object for a while: a secret."""
        try:
            return str(
                self._library.sign(
                    cast("Any", self._store), "GET", name, timedelta(seconds=expires_s)
                )
            )
        except Exception as error:
            raise self._failed(name, error) from error

    def _put(self, name: str, data: Content, notes: Mapping[str, str], mode: Any) -> str:
        try:
            written = self._library.put(
                self._store,
                name,
                data,
                attributes=dict(notes) or None,
                mode=mode,
                use_multipart=False,
            )
        except (self._errors.AlreadyExistsError, self._errors.PreconditionError) as error:
            raise ConflictError(name) from error
        except Exception as error:
            raise self._failed(name, error) from error
        return written["e_tag"] or ""

    def _get(self, name: str, options: Any = None) -> Any:
        try:
            return self._library.get(self._store, name, options=options)
        except Exception as error:
            raise self._failed(name, error) from error

    def _failed(self, name: str, error: Exception) -> Exception:
        """Return the error to raise: whether trying again may help, without secrets."""
        where = f"{self.shown}/{name}" if name else self.shown
        if reason := self._refusal(error):
            is_object = reason.startswith(_DENIED)
            return StoreRefusedError(f"{where if is_object else self.shown}: {reason}")
        if isinstance(error, FileNotFoundError):
            return NoObjectError(name)
        return StoreUnavailableError(f"{where}: {_first_line(error)}")

    def _refusal(self, error: Exception) -> str:
        """Return why waiting does not help; "" if it may."""
        text = str(error)
        code = next(iter(re.findall(r"<Code>(\w+)</Code>", text)), "")
        if code in _REFUSALS:
            return _REFUSALS[code]
        if any(sign in text for sign in _NO_CREDENTIALS):
            return _ADVICE
        if isinstance(error, self._errors.NotSupportedError):
            return _first_line(error)
        if isinstance(error, self._errors.PermissionDeniedError):
            return f"{_DENIED} (HTTP 403)"
        is_login = isinstance(error, self._errors.UnauthenticatedError)
        return "the credentials are wrong (HTTP 401)" if is_login else ""


def _payload_options(scheme: str) -> dict[str, Any]:
    """Return the options by which what is sent over TLS is not hashed as well.

    Hashing the content for the signature takes more CPU than all else of an upload, and TLS keeps
    the content as it is. Where plain http is allowed it is signed. The environment may say
    otherwise.
    """
    is_signed = _allows_http(scheme) or "AWS_UNSIGNED_PAYLOAD" in os.environ
    return {} if scheme != "s3" or is_signed else {"aws_unsigned_payload": True}


def _allows_http(scheme: str) -> bool:
    """Return whether the environment allows plain http, as to a server on this machine."""
    name = {"s3": "AWS_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}.get(scheme, "GOOGLE_ALLOW_HTTP")
    return os.environ.get(name, "").strip().lower() in {"true", "1", "yes", "on"}


def _texts(attributes: Mapping[Any, Any]) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in attributes.items()}


def _first_line(error: Exception) -> str:
    """Return what obstore says of an error, without its debug output, addresses and secrets."""
    text = str(error).partition("\n")[0].partition("<?xml")[0].strip(" :")
    text = re.sub(r"Error performing (\w+) \S+ in [\d.]+\S* - ", r"\1: ", text)
    return without_secrets(re.sub(r"\?[^\s\"']+", "", text))[:300]
