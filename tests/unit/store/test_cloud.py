"""Options of stores in clouds, without a server."""

import pytest

from gemini_batch.store.cloud import _payload_options


@pytest.mark.parametrize(
    ("scheme", "variables", "is_unsigned"),
    [
        ("s3", {}, True),
        ("s3", {"AWS_ENDPOINT_URL": "https://minio.example"}, True),
        ("s3", {"AWS_ALLOW_HTTP": "true"}, False),
        ("s3", {"AWS_UNSIGNED_PAYLOAD": "false"}, False),
        ("az", {}, False),
        ("gs", {}, False),
    ],
)
def test_content_is_signed_where_nothing_else_protects_it(
    scheme: str,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_unsigned: bool,
) -> None:
    """Over plain http; over TLS only if the environment asks for it."""
    for name in ("AWS_ALLOW_HTTP", "AWS_UNSIGNED_PAYLOAD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _payload_options(scheme) == ({"aws_unsigned_payload": True} if is_unsigned else {})
