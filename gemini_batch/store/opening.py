"""Opens the store at an address."""

from pathlib import Path

from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import ImageStore
from gemini_batch.store.local import LocalStore

# A renewal of the lease must not hang for longer than it is of use.
QUICK_S = 8.0


def open_store(address: BucketAddress, timeout_s: float = 120.0) -> ImageStore:
    """Return the store at an address; no request is made, whose longest time is `timeout_s`.

    Raises:
        ConfigError: The extra `bucket` is not installed, or the environment does not say enough.
    """
    if address.scheme == "file":
        return LocalStore(Path(address.prefix))
    from gemini_batch.store.cloud import CloudStore

    return CloudStore(address, timeout_s)
