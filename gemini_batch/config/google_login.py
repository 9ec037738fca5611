"""The Google Cloud login of the environment: its library, its file, and what is secret in it.

Application Default Credentials: https://google.aip.dev/auth/4110 (2026-11-30).
"""

import json
import os
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gemini_batch.config.keys import VARIABLES
from gemini_batch.errors import ConfigError

FILE_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
INSTALL = "pip install 'gemini_batch[vertex]'"
_USERS_FILE = "application_default_credentials.json"
_SECRETS = ("private_key", "refresh_token", "client_secret", "authorization")
_MIN_LINE_CHARS = 20

issued: deque[str] = deque(maxlen=4)
"""The newest tokens of this process, to be kept out of the report of a bug."""


def check_installed() -> None:
    """Check that the library that logs in is installed.

    Raises:
        ConfigError: It is not.
    """
    try:
        is_installed = find_spec("google.auth") and find_spec("requests")
    except ModuleNotFoundError:  # nothing of Google's
        is_installed = None
    if not is_installed:
        raise ConfigError(f"--vertex: needs google-auth, which is not installed: {INSTALL}")


def notices(environment: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a sentence for a key of the environment, which a login replaces."""
    if found := [name for name in VARIABLES if environment.get(name, "").strip()]:
        verb = "is" if len(found) == 1 else "are"
        yield f"{' and '.join(found)} {verb} not used: --vertex sends with a Google Cloud login"


def credentials_file(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Return the file of the login: the variable's, else the one that gcloud writes, if any."""
    if named := environment.get(FILE_VARIABLE, ""):
        return Path(named)
    home = environment.get("HOME", "")
    folder = environment.get("CLOUDSDK_CONFIG") or (f"{home}/.config/gcloud" if home else "")
    path = Path(folder, _USERS_FILE)
    return path if folder and path.is_file() else None


def known_secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the newest tokens and the secrets of the file, to be kept out of a text."""
    found = list(issued)
    path = credentials_file(environment)
    with suppress(OSError, ValueError, RecursionError):
        found += secrets_of(json.loads(path.read_bytes())) if path else ()
    return found


def secrets_of(value: Any) -> Iterator[str]:
    """Yield the secrets of a credentials file; a private key line by line."""
    match value:
        case dict():
            for name, item in value.items():
                if name.lower() in _SECRETS and isinstance(item, str):
                    lines = item.splitlines()
                    yield from (each for each in lines if len(each) >= _MIN_LINE_CHARS)
                else:
                    yield from secrets_of(item)
        case list():
            for item in value:
                yield from secrets_of(item)
