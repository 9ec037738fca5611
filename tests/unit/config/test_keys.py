"""The key of a run in files: which one counts, what else is in them, and who can read them."""

import os
from pathlib import Path

import pytest

from gemini_batch.config.keys import find_key, known_keys
from gemini_batch.errors import ConfigError, ExitCode, NoKeyError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder; the working folder is another one, without a key."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / ".config" / "gemini_batch").mkdir(parents=True)
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    """Write a file with this mode."""
    path.write_text(text)
    path.chmod(mode)
    return path


def key_file(home: Path) -> Path:
    """Return the user's own key file."""
    return home / ".config" / "gemini_batch" / "key.env"


def test_the_nearest_source_counts(home: Path) -> None:
    """The environment wins over `.env` here, which wins over the user's own file; the source is known."""
    environment = {"HOME": str(home)}
    write(key_file(home), "GEMINI_API_KEY=of-the-user")
    assert find_key(environment).source == str(key_file(home))

    write(Path(".env"), "GOOGLE_API_KEY=of-here")
    assert (find_key(environment).value, find_key(environment).source) == ("of-here", ".env")

    found = find_key({**environment, "GOOGLE_API_KEY": "of-the-environment"})
    assert (found.value, found.source) == ("of-the-environment", "GOOGLE_API_KEY")


@pytest.mark.parametrize(
    "text",
    [
        "GEMINI_API_KEY=AIza-1",
        'export GEMINI_API_KEY="AIza-1" # mine\n',
        "\ufeff# a comment\nOTHER=x y z\nGEMINI_API_KEY = 'AIza-1'\n",
        "not a line of it\nGEMINI_API_KEY=AIza-1\nGOOGLE_API_KEY=another",
        "GEMINI_API_KEY=\nGOOGLE_API_KEY=AIza-1",
    ],
)
@pytest.mark.usefixtures("home")
def test_a_file_is_read_as_other_tools_write_it(text: str) -> None:
    """Quotes, `export`, comments, other variables: only the key is taken, and nothing is put into the environment."""
    write(Path(".env"), text)
    before = dict(os.environ)

    assert find_key({}).value == "AIza-1"
    assert dict(os.environ) == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
@pytest.mark.usefixtures("home")
def test_a_key_that_others_can_read_is_refused(mode: int) -> None:
    """Exit 6 and the command that mends it; the key is not shown."""
    write(Path(".env"), "GEMINI_API_KEY=AIza-1", mode)

    with pytest.raises(NoKeyError) as caught:
        find_key({})

    assert str(caught.value) == ".env: has a key, and other users can read it: chmod 600 .env"
    assert caught.value.exit_code == ExitCode.REFUSED


def test_a_key_file_may_be_a_link(home: Path) -> None:
    """The permissions of the target count, not those of the link."""
    kept = write(home / "kept", "GEMINI_API_KEY=AIza-1")
    Path(".env").symlink_to(kept)
    assert find_key({}).value == "AIza-1"

    kept.chmod(0o644)
    with pytest.raises(NoKeyError, match="other users can read it"):
        find_key({})


def test_a_file_without_a_key_may_be_read_by_all(home: Path) -> None:
    """A project's `.env` is no concern of this program's unless it has the key."""
    write(Path(".env"), "DATABASE=x", 0o644)
    write(key_file(home), "GEMINI_API_KEY=of-the-user")

    assert find_key({"HOME": str(home)}).value == "of-the-user"


def test_what_is_no_file_is_passed_over(home: Path) -> None:
    """A folder, a FIFO, a broken link, no home folder at all: none of them holds up a run."""
    os.mkfifo(".env")
    assert find_key({"HOME": str(home), "GEMINI_API_KEY": "a"}).value == "a"
    with pytest.raises(NoKeyError, match="no key"):
        find_key({"HOME": str(home)})

    Path(".env").unlink()
    Path(".env").symlink_to("nowhere")
    key_file(home).mkdir()
    with pytest.raises(NoKeyError):
        find_key({"HOME": str(home)})
    with pytest.raises(NoKeyError, match="no key"):
        find_key({"HOME": str(home / "work" / ".env")})


@pytest.mark.usefixtures("home")
def test_a_wrong_key_of_a_file_names_the_file() -> None:
    """What can't be sent as a header is refused with its place, and not shown."""
    write(Path(".env"), "GEMINI_API_KEY='AIza 1'")

    with pytest.raises(ConfigError, match=r"^\.env: GEMINI_API_KEY: contains a space") as caught:
        find_key({})
    assert "AIza" not in str(caught.value)


def test_all_keys_are_kept_out_of_a_crash_file(home: Path) -> None:
    """Those of the files as well, also where the run uses another one."""
    write(Path(".env"), "GEMINI_API_KEY=of-here")
    write(key_file(home), "GEMINI_API_KEY=of-the-user")

    found = known_keys({"HOME": str(home), "GOOGLE_API_KEY": "of-the-environment"})

    assert found == ["of-the-environment", "of-here", "of-the-user"]


UNUSED = {
    "other users can read it": ("GEMINI_API_KEY=AIza-1", 0o644),
    "it can't be sent": ("GEMINI_API_KEY='AIza 1'", 0o600),
    "it is not ASCII": ("GEMINI_API_KEY=AIza\u00e9", 0o600),
    "the other name counts": ("GEMINI_API_KEY=AIza-1\nGOOGLE_API_KEY=AIza-2", 0o600),
    "both, and others can read them": ("GOOGLE_API_KEY=AIza-2\nGEMINI_API_KEY=AIza-1", 0o666),
}


@pytest.mark.parametrize("name", UNUSED)
def test_a_key_that_is_not_used_is_kept_out_as_well(home: Path, name: str) -> None:
    """A refused key, and the second one of a file or of the environment, is as secret as the first."""
    text, mode = UNUSED[name]
    written = sorted(line.partition("=")[2].strip("'") for line in text.splitlines())

    write(Path(".env"), text, mode)
    assert sorted(known_keys({})) == written
    Path(".env").rename(key_file(home))
    assert sorted(known_keys({"HOME": str(home)})) == written
    both = {"GEMINI_API_KEY": " a-key", "GOOGLE_API_KEY": "another "}
    assert known_keys(both) == ["a-key", "another"]
