import pytest

from gemini_batch.store.address import BucketAddress, is_address
from gemini_batch.store.secrets import known_secrets, without_secrets


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "shown"),
    [
        ("s3://pictures/robots", "pictures", "robots", "s3://pictures/robots"),
        ("S3://pictures/a/b/", "pictures", "a/b", "s3://pictures/a/b"),
        ("az://con-tainer", "con-tainer", "", "az://con-tainer"),
        ("gs://my_bucket.org/x y", "my_bucket.org", "x y", "gs://my_bucket.org/x y"),
        ("file:///mnt/share", "", "/mnt/share", "file:///mnt/share"),
    ],
)
def test_an_address_names_bucket_and_prefix(
    text: str, bucket: str, prefix: str, shown: str
) -> None:
    """It has one spelling, from which it is read again."""
    assert is_address(text)
    address = BucketAddress.parse(text)
    assert (address.bucket, address.prefix, str(address)) == (bucket, prefix, shown)
    assert BucketAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "s3:/pictures",
        "s3:pictures",
        "https://a/b",
        "ftp://x/y",
        "s3://",
        "s3://b/x",
        "s3://Pictures/x",
        "s3://pictures//x",
        "s3://pictures/../x",
        "gcs://pictures/x",
        "abfss://c@account.dfs.core.windows.net/x",
        "file://host/x",
        "file:///",
    ],
)
def test_what_is_no_address_is_refused_with_what_is_allowed(text: str) -> None:
    """It is meant as one, so it is never taken for a folder."""
    assert is_address(text)
    with pytest.raises(ValueError, match=r"allowed|has 3 to 63|may be empty"):
        BucketAddress.parse(text)


@pytest.mark.parametrize("text", ["s3://pictures/x?sig=SECRET", "az://user:SECRET@c/x"])
def test_a_secret_in_an_address_is_not_repeated(text: str) -> None:
    """A query may be a signature, and a user name has a password."""
    with pytest.raises(ValueError, match="has a query") as raised:
        BucketAddress.parse(text)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("text", ["jobs.out", "./s3", "/s3/x", "C/s3://x", "a:b", "12:30/x"])
def test_a_path_is_no_address(text: str) -> None:
    """Folders keep their names."""
    assert not is_address(text)


def test_secrets_of_every_cloud_are_hidden() -> None:
    """Keys, tokens and signatures; region, names and files stay readable."""
    environment = {
        "AWS_SECRET_ACCESS_KEY": "aws/secret+key",
        "AWS_SESSION_TOKEN": "session-token",
        "AZURE_STORAGE_ACCOUNT_KEY": "azure==key",
        "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=abcdef",
        "GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "x"}',
        "AWS_REGION": "eu-central-1",
        "AZURE_STORAGE_ACCOUNT_NAME": "account",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
        "HOME": "/home/secret",
    }
    assert len(known_secrets(environment)) == 5
    text = " ".join(environment.values())
    assert without_secrets(text, environment).split() == [
        "[secret]",
        "[secret]",
        "[secret]",
        "[secret]",
        "[secret]",
        "eu-central-1",
        "account",
        "/var/run/token",
        "/home/secret",
    ]
