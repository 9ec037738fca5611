"""The environment of a run: the config file's tables, and the base URL."""

import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gemini_batch.config.endpoints import GOOGLE
from gemini_batch.config.keys import open_at_once
from gemini_batch.config.network import is_loopback
from gemini_batch.config.vertex import Vertex
from gemini_batch.errors import ConfigError

DEFAULT_BASE_URL = GOOGLE

BASE_URL_VARIABLE = "GEMINI_BATCH_BASE_URL"
VERTEX_VARIABLE = "GEMINI_BATCH_VERTEX"

_TABLES = ("tiers", "prices")
_MAX_TOML_BYTES = 256 * 1024
_MAX_DOTS = 20  # in one line: [prices."gemini-3-pro-image".image_usd] has 2 outside of strings
_TOO_DEEP = f"is nested too deeply; allowed: tables such as [{_TABLES[0]}.mine]"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# The API version if the address names none; see client/request_json.py.
_DEFAULT_VERSION = "/v1beta"
_EXAMPLE = f"allowed: an address such as {DEFAULT_BASE_URL}"


def read_tables(path: Path | None) -> dict[str, Any]:
    """Return a config file's tables, `{}` without one.

    Raises:
        ConfigError: The file can't be read, is not TOML, or has an unknown table.
    """
    if path is None:
        return {}
    try:
        tables = tomllib.loads(_toml_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: {_TOO_DEEP}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    except ValueError as error:  # more than 4,300 digits
        raise ConfigError(f"{path}: has a number that is too long") from error
    for name in tables:
        if name not in _TABLES:
            allowed = ", ".join(_TABLES)
            raise ConfigError(f'{path}: unknown table "{name}"; allowed: {allowed}')
    return tables


def _toml_text(path: Path) -> str:
    """Return the text of a config file that tomllib can read in bounded time and memory.

    Raises:
        ConfigError: It is too large, no regular file, or a key has too many parts, whose square is
            the time.
        OSError: It can't be read.
        UnicodeDecodeError: It is not UTF-8.
    """
    with open(path, "rb", opener=open_at_once) as file:  # Path has no opener
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError(f"{path}: is not a regular file; save it as one first")
        data = file.read(_MAX_TOML_BYTES + 1)
    if len(data) > _MAX_TOML_BYTES:
        raise ConfigError(f"{path}: is larger than {_MAX_TOML_BYTES // 1024} KB: no config file is")
    text = data.decode("utf-8-sig")  # some editors on Windows write a byte order mark
    if any(_bare(line).count(".") > _MAX_DOTS for line in text.splitlines()):
        raise ConfigError(f"{path}: {_TOO_DEEP}")
    return text


def _bare(line: str) -> str:
    """Return a line of TOML without its strings and comments."""
    return re.sub(r"""#.*|"(?:[^"\\]|\\.)*"|'[^']*'""", "", line)


def vertex(flag: str | None, environment: Mapping[str, str] = os.environ) -> Vertex | None:
    """Return the project of Vertex AI: the flag's, else the environment's; None if none is named.

    Raises:
        ConfigError: It is not a project, or has no such location.
    """
    named = environment.get(VERTEX_VARIABLE) if flag is None else flag
    try:
        return None if named is None else Vertex.parse(named)
    except ValueError as error:
        source = VERTEX_VARIABLE if flag is None else "--vertex"
        raise ConfigError(f"{source}: {error}") from error


def base_url(
    flag: str | None,
    environment: Mapping[str, str] = os.environ,
    *,
    allow_insecure: bool = False,
    default: str = DEFAULT_BASE_URL,
) -> str:
    """Return the base URL: the flag, else the environment, else `default`.

    Raises:
        ConfigError: It is not a plain http(s) address; it is empty, as from an unset variable; or
            it is plain http to another machine, which would send the key in clear text, without
            `allow_insecure`.
    """
    source, value = "--base-url", flag
    if flag is None:
        source, value = BASE_URL_VARIABLE, environment.get(BASE_URL_VARIABLE)
    if value is None:
        return default
    value = value.strip()
    if not value:
        raise ConfigError(f"{source}: is empty; {_EXAMPLE}, or leave it out for that one")
    if any(mark in value for mark in "@?#"):
        # Not shown: it often contains a password or a key.
        raise ConfigError(f"{source}: has a user name, a query or a fragment; {_EXAMPLE}")
    parts = _plain_address(value)
    if parts is None:
        raise ConfigError(f'{source}: got "{value}"; {_EXAMPLE}')
    if parts.scheme == "http" and not allow_insecure and not is_loopback(parts.hostname or ""):
        raise ConfigError(
            f'{source}: got "{value}"; plain http shows the key to the network: '
            "use https, or allow it by --allow-insecure"
        )
    return _normalized(parts)


def _plain_address(value: str) -> SplitResult | None:
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for an invalid port
    except ValueError:
        return None
    return parts if parts.scheme in _DEFAULT_PORTS and parts.hostname else None


def _normalized(parts: SplitResult) -> str:
    """Return the address as rows carry it.

    A second spelling would be another endpoint, and all calls would be paid for again.
    """
    host = parts.hostname or ""  # in lower case
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/').removesuffix(_DEFAULT_VERSION)}"


def listed_in_files(flag: str, entries: Iterable[str]) -> tuple[str, ...]:
    """Return the entries of a flag, with the lines of FILE for each `@FILE`.

    Raises:
        ConfigError: A file can't be read, or has no entry.
    """
    found: list[str] = []
    for entry in entries:
        if not entry.startswith("@"):
            found.append(entry)
            continue
        file = Path(entry[1:])
        try:
            with open(file, encoding="utf-8-sig", opener=open_at_once) as text:
                lines = [line.rstrip("\r\n") for line in text]
        except UnicodeDecodeError as error:
            raise ConfigError(f"{flag}: {file}: not UTF-8; save it as UTF-8") from error
        except OSError as error:
            raise ConfigError(f"{flag}: {file}: can't be read: {error.strerror}") from error
        if not any(lines):
            raise ConfigError(f"{flag}: {file}: is empty; write one entry per line")
        found += filter(None, lines)
    return tuple(found)
