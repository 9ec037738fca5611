"""The address of a ledger in PostgreSQL, without its password where anyone may read it."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from urllib.parse import SplitResult, parse_qsl, unquote

from gemini_batch.errors import ConfigError, FlagsError

INSTALL = "pip install 'gemini_batch[postgres]'"
SCHEMES = ("postgresql", "postgres")
EXAMPLE = "postgresql://USER@HOST/DATABASE"
VARIABLE = "GEMINI_BATCH_LEDGER"
SOURCES = f"--ledger or {VARIABLE}"

_SECRETS = {"password", "sslpassword"}
# A shorter password may be part of a word.
_MIN_SECRET_CHARS = 4


def ledger(flag: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the address of the ledger: the flag's, else the environment's; None is this machine's.

    Raises:
        FlagsError: The flag has a password, which every user of the machine can read.
        ConfigError: It is not an address, or psycopg is not installed.
    """
    source, url = "--ledger", flag
    if flag is None:
        source, url = VARIABLE, environment.get(VARIABLE)
    if url is None:
        return None
    url = url.strip()
    if flag is not None and secrets(url):
        raise FlagsError(
            f"--ledger: has a password, which every user of this machine can read: set "
            f"{VARIABLE} to the address instead, or keep the password in the file of PGPASSFILE"
        )
    if not is_address(url):
        # Not shown: it may have a password in another place.
        raise ConfigError(
            f"{source}: is not the address of a ledger; allowed: {EXAMPLE} (write @ as %40)"
        )
    if find_spec("psycopg") is None:
        raise ConfigError(f"{source}: needs psycopg, which is not installed: {INSTALL}")
    return url


def known_passwords(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the passwords of the ledger in the environment, to be kept out of a text."""
    found = [*secrets(environment.get(VARIABLE, "")), environment.get("PGPASSWORD", "")]
    return [each for each in found if len(each) >= _MIN_SECRET_CHARS]


def is_address(url: str) -> bool:
    """Return whether a text is the address of a PostgreSQL server."""
    scheme, colon, rest = url.partition("://")
    is_plain = not any(map(str.isspace, url)) and rest.partition("?")[0].count("@") <= 1
    return bool(colon) and scheme in SCHEMES and is_plain


def secrets(url: str) -> list[str]:
    """Return the passwords in an address, each as it is written and as it is meant."""
    parts = _split(url)
    written = [parts.netloc.rpartition("@")[0].partition(":")[2]]
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        written += [value] if unquote(name).lower() in _SECRETS else []
    return list(dict.fromkeys(each for word in written for each in (word, unquote(word)) if each))


def shown(url: str) -> str:
    """Return the address with user, hosts and database alone."""
    parts = _split(url)
    user, at, hosts = parts.netloc.rpartition("@")
    named = [value for name, value in parse_qsl(parts.query) if name in {"host", "dbname"}]
    place = f"{user.partition(':')[0]}{at}{hosts}{parts.path}"
    return f"postgresql://{place}" + (f" ({', '.join(named)})" if named else "")


def without_secrets(text: str, url: str) -> str:
    """Return a text, as of a library, in which no password of the address is left."""
    for secret in sorted(secrets(url), key=len, reverse=True):
        if len(secret) >= _MIN_SECRET_CHARS or f":{secret}@" in text:
            text = text.replace(secret, "***")
    return text


def _split(url: str) -> SplitResult:
    """Split an address; a fragment, which has no meaning, belongs to what is before it."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    netloc, slash, path = place.rpartition("@")[2].partition("/")
    user, at, _ = place.rpartition("@")
    return SplitResult(scheme, f"{user}{at}{netloc}", f"{slash}{path}", query, "")
