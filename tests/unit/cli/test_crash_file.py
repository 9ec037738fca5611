"""The file with the traceback of a bug: it holds no secret of the machine."""

import base64
from pathlib import Path

import pytest

from gemini_batch import cli

KEY = "AIzaSyA-" + "0123456789abcdefghijklmnopqrstu"


def fail(text: str) -> None:
    """Fail, as a bug does."""
    raise ValueError(text)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_no_secret_is_written(mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that others can read, one that is not used, and the passwords of proxies are removed."""
    Path(".env").write_text(f"GEMINI_API_KEY={KEY}\nGOOGLE_API_KEY={KEY[::-1]}x")
    Path(".env").chmod(mode)
    monkeypatch.setenv("GOOGLE_API_KEY", "of-the-environment")
    monkeypatch.setenv("https_proxy", "http://me:p%40ss-word@proxy.test:3128")
    monkeypatch.setenv("HTTP_PROXY", "me:another-one@proxy.test:3128")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of/the+cloud")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=1&sig=abc%3D")
    secrets = (
        *("of/the+cloud", "of%2Fthe%2Bcloud", "sv=1&sig=abc%3D"),
        *(KEY, KEY[::-1] + "x", "of-the-environment"),
        *("p%40ss-word", "p@ss-word", "another-one"),
        base64.b64encode(b"me:p@ss-word").decode(),
    )
    try:
        fail(" ".join(f"<{secret}>" for secret in secrets))
    except ValueError:
        written = Path(cli._saved_traceback()).read_text()

    assert "ValueError" in written
    assert "proxy.test" not in written
    for secret in secrets:
        assert secret not in written


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, which is for temporary files too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
