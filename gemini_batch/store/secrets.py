"""Secrets of the clouds' environments, to be kept out of every text."""

import os
from collections.abc import Mapping

# Names of variables, or parts of them, whose values obstore reads as credentials
# (https://docs.rs/object_store, 2026-11-30).
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "AZURITE_")
_PARTS = ("SECRET", "TOKEN", "_KEY", "SAS", "PASSWORD", "SERVICE_ACCOUNT", "CONNECTION_STRING")
_NO_SECRETS = ("_FILE", "_PATH", "_URI", "ENDPOINT", "SKIP_SIGNATURE")
_MIN_CHARS = 6
HIDDEN = "[secret]"


def known_secrets(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the values of the variables that hold credentials, the longest first."""
    found = {
        value.strip()
        for name, value in environment.items()
        if name.startswith(_PREFIXES)
        and any(part in name for part in _PARTS)
        and not any(part in name for part in _NO_SECRETS)
    }
    return sorted((each for each in found if len(each) >= _MIN_CHARS), key=len, reverse=True)


def without_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text in which no secret of the environment is readable."""
    for secret in known_secrets(environment):
        text = text.replace(secret, HIDDEN)
    return text
