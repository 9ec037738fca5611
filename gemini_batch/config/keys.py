"""The API key: from the environment, from `.env`, or from the user's own key file."""

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gemini_batch.errors import ConfigError, NoKeyError

VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_KEY_FILE = "~/.config/gemini_batch/key.env"
_MAX_FILE_BYTES = 1 << 16
# Printable ASCII without blanks, quotes and backslashes.
_KEY = r"[!#-&(-[\]-~]+"
# Google's have 39 to 53, tokens of a proxy some thousand; servers refuse headers of 8,192 bytes.
_MAX_KEY_CHARS = 4_096


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the variable or the file that it comes from."""

    value: str = field(repr=False)
    source: str


def find_key(environment: Mapping[str, str] = os.environ) -> Key:
    """Return the key of a run: the environment's, else that of `.env` here, else of the key file.

    Of the files only the variables of a key are used.

    Raises:
        NoKeyError: There is none, or others can read the file that has it.
        ConfigError: It can't be sent as a header.
    """
    for name in VARIABLES:
        if key := environment.get(name, "").strip():
            return Key(checked_key(name, key), name)
    for path in _files(environment):
        if (found := _key_of(path)) is not None:
            return found
    raise NoKeyError(
        f"no key: set {VARIABLES[0]} in the environment, in .env or in {_KEY_FILE} (a key comes "
        "from https://aistudio.google.com/apikey), or try it without one: --simulate"
    )


def known_keys(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return all keys of the environment and of the files, to be kept out of a text.

    Those that a run does not use, or refuses, are among them.
    """
    found = [environment]
    for path in _files(environment):
        with suppress(ConfigError):
            if (file := _read(path)) is not None:
                found.append(file.values)
    keys = (values.get(name, "").strip() for values in found for name in VARIABLES)
    return list(filter(None, keys))


def checked_key(source: str, key: str) -> str:
    """Return the key unchanged.

    Raises:
        ConfigError: It can't be sent as a header; the text names `source`, and not the key.
    """
    if len(key) > _MAX_KEY_CHARS:
        raise ConfigError(
            f"{source}: has {len(key):,} characters, and a key has at most {_MAX_KEY_CHARS:,}; "
            "copy the key again, and nothing else"
        )
    if not re.fullmatch(_KEY, key):
        raise ConfigError(
            f"{source}: contains a space, a quote or another invalid character; copy only the key"
        )
    return key


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    yield Path(".env")
    if home := environment.get("HOME"):
        yield Path(_KEY_FILE.replace("~", home, 1))


def _key_of(path: Path) -> Key | None:
    """Return the key of a file; None if there is no such file, or no key in it."""
    if (file := _read(path)) is None:
        return None
    for name in VARIABLES:
        if key := file.values.get(name, "").strip():
            if os.name == "posix" and file.mode & (stat.S_IRGRP | stat.S_IROTH):
                raise NoKeyError(
                    f"{path}: has a key, and other users can read it: chmod 600 {path}"
                )
            return Key(checked_key(f"{path}: {name}", key), str(path))
    return None


class _KeyFile(NamedTuple):
    mode: int
    values: Mapping[str, str]


def _read(path: Path) -> _KeyFile | None:
    """Return the variables of a file; None if there is no such file."""
    try:
        with open(path, "rb", opener=open_at_once) as file:  # Path has no opener
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            text = file.read(_MAX_FILE_BYTES).decode("utf-8-sig", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise NoKeyError(f"{path}: can't be read: {error.strerror}") from error
    import logging

    from dotenv import dotenv_values  # most runs have the key in the environment

    logging.getLogger("dotenv").addHandler(logging.NullHandler())  # other lines are not our concern
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return _KeyFile(status.st_mode, {name: value or "" for name, value in values.items()})


def open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a FIFO."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
