"""`doctor`: what a run would use, and whether the server takes it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.commands import KEY, use_key_and_state
from tests.simulated import simulator


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_key_and_state(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running


def doctor(*flags: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and what was found; the key is nowhere."""
    code = main(["doctor", *flags, "--json"])
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err
    return code, orjson.loads(printed.out)


@pytest.mark.parametrize("auth", ["header", "query"])
def test_all_is_well(
    server: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str], auth: str
) -> None:
    """Key, limits and ledger of a run are shown, the model is known, and no call was made."""
    before = len(server.audit.entries)
    flags = ("--base-url", server.base_url, "--auth", auth, "--tier", "pay-as-you-go")

    code, found = doctor(*flags, capsys=capsys)

    assert (code, found["problem"]) == (0, None)
    assert found["key"] == {"ends_with": KEY[-4:], "source": "GEMINI_API_KEY"}
    assert found["limits"] == ["60 requests a minute", "10,000 requests a day"]
    assert found["ledger"].startswith(str(tmp_path / "state"))
    assert len(server.audit.entries) == before
    assert list((tmp_path / "state").glob("*")) == []

    assert main(["doctor", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"key           …{KEY[-4:]}, from GEMINI_API_KEY"
    assert lines[-1] == "model         gemini-3-pro-image-preview: the server knows it"


def test_a_model_that_is_not_there(server: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 6, and the name that is near."""
    flags = ("--base-url", server.base_url, "--model", "gemini-3-pro-imag")

    code, found = doctor(*flags, capsys=capsys)

    assert code == 6
    assert 'did you mean "gemini-3-pro-image"?' in found["problem"]


@pytest.mark.parametrize(
    ("path", "said"), [("/nowhere", "is not the Gemini API"), ("", "Connection refused")]
)
def test_a_wrong_address(
    server: Simulator, capsys: pytest.CaptureFixture[str], path: str, said: str
) -> None:
    """Exit 6, and the message says what answered, or that nothing did."""
    address = f"{server.base_url}{path}" if path else "http://127.0.0.1:1"

    code, found = doctor("--base-url", address, capsys=capsys)

    assert code == 6
    assert said in found["problem"]


def test_a_key_in_a_file_and_a_proxy_are_named_without_their_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source of the key, the variable and host of the proxy; a proxy that is not there is the problem."""
    monkeypatch.delenv("GEMINI_API_KEY")
    Path(".env").write_text(f"GEMINI_API_KEY={KEY}")
    Path(".env").chmod(0o600)
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p4ssword@127.0.0.1:1")

    code, found = doctor("--base-url", "https://gemini.test", capsys=capsys)

    assert code == 6
    assert found["key"]["source"] == ".env"
    assert found["proxy"] == {"host": "127.0.0.1:1", "variable": "HTTPS_PROXY"}
    assert "no connection to the proxy 127.0.0.1:1 that HTTPS_PROXY names" in found["problem"]
    assert "p4ssword" not in str(found)


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (["--tier", "gold"], 3),
        (["--rpm", "ten"], 2),
        (["--service-tier", "flex", "--model", "gemini-3.1-flash-image"], 3),
        (["--service-tier", "priority", "--model", "gemini-nano-banana-2.1"], 3),
        (["--service-tier", "flex", "--vertex", "p/us-central1"], 3),
        (["--service-tier", "flex", "--vertex", "p/eu", "--base-url", "https://psc.test"], 3),
    ],
)
def test_a_wrong_flag_is_a_sentence(flags: list[str], code: int) -> None:
    """As of a run."""
    try:
        assert main(["doctor", *flags]) == code
    except SystemExit as ended:
        assert ended.code == code  # noqa: PT017 # argparse ends by itself


def test_without_a_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 6 and where one can be written."""
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")

    assert main(["doctor"]) == 6
    assert "set GEMINI_API_KEY" in capsys.readouterr().err
