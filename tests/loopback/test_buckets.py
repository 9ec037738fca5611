"""Stores in real servers: moto stands in for S3, azurite for Azure."""

import os
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from gemini_batch.errors import ConfigError
from gemini_batch.store.address import BucketAddress
from gemini_batch.store.base import ImageStore, StoreRefusedError, StoreUnavailableError
from gemini_batch.store.opening import open_store
from tests.buckets import AWS_SECRET, AZURE_KEY, azure, moto
from tests.unit.store.contract import StoreContract

pytestmark = [pytest.mark.loopback, pytest.mark.slow]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an S3."""
    with moto(tmp_path_factory.mktemp("moto")) as environment:
        yield environment


@pytest.fixture(scope="module")
def az(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an Azure."""
    with azure(tmp_path_factory.mktemp("azure")) as environment:
        yield environment


def use(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    """Set the environment, and nothing else of any cloud."""
    for name in os.environ:
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


class TestS3(StoreContract):
    @pytest.fixture
    def store(self, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ImageStore:
        """Return a new place in the bucket."""
        use(monkeypatch, s3)
        return open_store(BucketAddress.parse(f"s3://pictures/{uuid4().hex}"))


class TestAzure(StoreContract):
    @pytest.fixture
    def store(self, az: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> ImageStore:
        """Return a new place in the container."""
        use(monkeypatch, az)
        return open_store(BucketAddress.parse(f"az://pictures/{uuid4().hex}"))


def test_a_bucket_that_is_missing_is_refused(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every method raises it, and none takes it for a missing object."""
    use(monkeypatch, s3)
    store = open_store(BucketAddress.parse("s3://nowhere/x"))
    for use_it in (
        lambda: store.create("a", b""),
        lambda: store.put("a", b""),
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StoreRefusedError, match=r"^s3://nowhere/x.*: there is no such bucket$"):
            use_it()


def test_a_container_that_is_missing_is_refused(
    az: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bucket is, in Azure's own words."""
    use(monkeypatch, az)
    store = open_store(BucketAddress.parse("az://nowhere/x"))
    for use_it in (
        lambda: store.create("a", b""),
        lambda: store.get("a"),
        lambda: list(store.list("")),
    ):
        with pytest.raises(StoreRefusedError, match="there is no such"):
            use_it()


def test_a_wrong_key_of_azure_is_refused_and_not_shown(
    az: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person has to act; the key is in no text."""
    wrong = "d3JvbmctYW5kLWxvbmctZW5vdWdo"
    use(monkeypatch, az | {"AZURE_STORAGE_ACCOUNT_KEY": wrong})
    with pytest.raises(StoreRefusedError) as raised:
        open_store(BucketAddress.parse("az://pictures/x")).create("a", b"")
    assert wrong not in str(raised.value)
    assert AZURE_KEY not in str(raised.value)


def test_a_server_that_is_not_there_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is unavailable, soon, in one line without the secret."""
    use(
        monkeypatch,
        {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": AWS_SECRET,
            "AWS_REGION": "us-east-1",
        },
    )
    began_s = time.monotonic()
    with pytest.raises(StoreUnavailableError) as raised:
        open_store(BucketAddress.parse("s3://pictures/x")).create("a", b"")
    assert time.monotonic() - began_s < 60
    assert str(raised.value).startswith("s3://pictures/x/a: ")
    assert "\n" not in str(raised.value)
    assert AWS_SECRET not in str(raised.value)


def test_an_account_that_no_one_names_is_wrong_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure needs its account's name before any request."""
    use(monkeypatch, {})
    with pytest.raises((ConfigError, StoreUnavailableError), match=r"[Aa]ccount"):
        open_store(BucketAddress.parse("az://pictures/x")).create("a", b"")
