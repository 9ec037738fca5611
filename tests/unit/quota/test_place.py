import os
import pwd
from pathlib import Path

import pytest

from gemini_batch.cli import main
from gemini_batch.errors import ConfigError
from gemini_batch.quota.storage import SqliteStorage, state_path

VARIABLES = ("HOME", "XDG_STATE_HOME", "GEMINI_BATCH_STATE_DIR")


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry in the system's list of users."""

    def unknown(_: object) -> None:
        raise KeyError

    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


def refusal(path: Path) -> str:
    """Return why no ledger opens there."""
    with pytest.raises(ConfigError) as refused:
        SqliteStorage(path).open()
    return str(refused.value)


@pytest.mark.parametrize("home", [None, "", "relative", "."])
def test_without_a_home_folder_the_variable_is_named(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's user without HOME gets a sentence with the way out, and exit code 3."""
    if home is not None:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(ConfigError) as refused:
        state_path(os.environ)
    assert str(refused.value) == (
        "there is no home folder, which the quota's ledger needs: name one by its whole path in "
        "GEMINI_BATCH_STATE_DIR"
    )
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("folder", ["~nosuchuser/x", "~", "~/state", "~0/x"])
def test_the_home_of_nobody_is_refused(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that begins with an unknown user's home is shown as it was found."""
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", folder)
    assert main(["quota"]) == 3
    with pytest.raises(ConfigError, match="no such home folder") as refused:
        state_path({"GEMINI_BATCH_STATE_DIR": folder})
    assert str(refused.value).startswith(f'GEMINI_BATCH_STATE_DIR: got "{folder}"; ')


def test_a_folder_that_needs_no_home_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole path needs no home; a relative XDG folder is ignored, as its specification says."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_path({}) == tmp_path / "gemini_batch" / "quota.sqlite"
    assert state_path({"GEMINI_BATCH_STATE_DIR": "/x"}) == Path("/x/quota.sqlite")
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    with pytest.raises(ConfigError, match="no home folder"):
        state_path({})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in state_path({}).parents


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    """A file, a device, a name that is too long, or a loop of links is a mistake of the environment."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for folder in (
        tmp_path / "file",
        tmp_path / "file/.local/state",
        Path("/dev/null/x"),
        tmp_path / ("x" * 300),
        tmp_path / "loop" / "x",
    ):
        assert refusal(folder / "quota.sqlite").endswith(
            "; fix the folder, or name another folder by GEMINI_BATCH_STATE_DIR"
        )
    SqliteStorage(tmp_path / "no/such/quota.sqlite").open()


def test_a_folder_that_is_no_utf8_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path of any bytes is printed as JSON."""
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", f"{tmp_path}/\udcff")
    assert main(["quota", "--json"]) == 0
    assert r"/\\xff/quota.sqlite" in capsys.readouterr().out
