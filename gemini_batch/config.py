"""All settings of a run as one value, checked once: flags win over the config file, the file over the built-in tables."""

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from gemini_batch.errors import ConfigError, NoKeyError
from gemini_batch.records import Limits, Status

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
SIMULATOR_ENDPOINT = "simulator"
"""The endpoint's name in rows of a run with the embedded simulator: its port is another one each time."""

KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
BASE_URL_VARIABLE = "GEMINI_BATCH_BASE_URL"

# An answer takes 20 to 140 s (see Timeouts), so a minute's quota needs this many minutes' worth of calls in flight.
_MINUTES_IN_FLIGHT = 2.5
# Printable ASCII without blanks, quotes and backslashes.
_KEY = r"[!#-&(-[\]-~]+"
_DEFAULT_PORTS = {"http": 80, "https": 443}
# What requests use when the address names no version; see transport/wire.py.
_DEFAULT_VERSION = "/v1beta"
_MIN_CONCURRENCY, _MAX_CONCURRENCY = 4, 128


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for what, in seconds.

    Medians that were measured: 19 s for 1K on the Pro model, 35 s for 4K, 35 to 142 s with several reference images; a dropped
    connection is still billed, so the whole is generous (collected 2026-11-22).
    """

    connect_s: float = 10.0
    between_bytes_s: float = 60.0
    whole_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """The settings of one run.

    Attributes:
        tier: A tier's name, for the summary and for messages.
        limits: What may be used of each model.
        endpoint: What rows carry as `endpoint`: the base URL, or `simulator`.
        base_url: Where requests go; None starts the embedded simulator.
        api_key: Never printed, never written.
        auth: `header` sends `x-goog-api-key`, `query` sends `?key=`.
        model: For jobs that name none.
        concurrency: Most calls in flight.
        max_attempts: How often one call is sent in a run before it is `failed`.
        retry: Statuses that are sent again though they are final.
        retry_missing: Whether a finished image that a person deleted is made, and paid for, again.
        skip_uncertain: Whether a call that may have been billed and gave nothing is left `uncertain`, in place of sent again.
        timeouts: Of one attempt.
        max_input_pixels: Reference images with more pixels are sent with at most so many; None is as they are.
        reuse_from: Other output folders, whose answers are copied in place of asking for the same again.
        deadline_s: No call is taken in after so many seconds; None is never.
        waits_for_reset: Whether a day that is used up is slept through, in place of ending the run.
        quota_scope: Names the project whose quota is used; None goes by the key.
        tables: The config file's tables, for tiers and prices.
    """

    tier: str
    limits: Limits
    endpoint: str
    base_url: str | None
    model: str
    api_key: str = field(default="", repr=False)
    auth: str = "header"
    concurrency: int = _MAX_CONCURRENCY
    max_attempts: int = 6
    retry: frozenset[Status] = frozenset()
    retry_missing: bool = False
    skip_uncertain: bool = False
    timeouts: Timeouts = Timeouts()
    max_input_pixels: int | None = None
    reuse_from: tuple[Path, ...] = ()
    deadline_s: float | None = None
    waits_for_reset: bool = False
    quota_scope: str | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)


def concurrency_for(limits: Limits) -> int:
    """Return how many calls in flight let slow answers still use up the minute's quota."""
    if limits.requests_per_min is None:
        return _MAX_CONCURRENCY
    wanted = round(limits.requests_per_min * _MINUTES_IN_FLIGHT)
    return max(_MIN_CONCURRENCY, min(_MAX_CONCURRENCY, wanted))


def read_tables(path: Path | None) -> dict[str, Any]:
    """Return a config file's tables, `{}` without one.

    Raises:
        ConfigError: The file can't be read, is no TOML, or has an unknown table.
    """
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    known = ("tiers", "prices")
    if unknown := [name for name in tables if name not in known]:
        raise ConfigError(f'{path}: unknown table "{unknown[0]}"; allowed: {", ".join(known)}')
    return tables


def api_key(environment: Mapping[str, str] = os.environ) -> str:
    """Return the key of the environment.

    Raises:
        NoKeyError: There is none.
        ConfigError: It could not be sent as a header.
    """
    for name in KEY_VARIABLES:
        key = environment.get(name, "").strip()
        if not key:
            continue
        if not re.fullmatch(_KEY, key):
            raise ConfigError(f"{name}: has characters that no key has; copy the key again, without quotes")
        return key
    raise NoKeyError(
        f"no key: set {KEY_VARIABLES[0]} (a key comes from https://aistudio.google.com/apikey), "
        "or try it without one: --simulate"
    )


def base_url(flag: str | None, environment: Mapping[str, str] = os.environ, *, allow_insecure: bool = False) -> str:
    """Return where requests go: the flag, else the environment, else Google.

    Raises:
        ConfigError: It is no http(s) address and nothing else, or a plain http one of another machine, which would show the key to the network
            and is not explicitly allowed.
    """
    flag, variable = (flag or "").strip(), environment.get(BASE_URL_VARIABLE, "").strip()
    source, value = ("--base-url", flag) if flag else (BASE_URL_VARIABLE, variable)
    if not value:
        return DEFAULT_BASE_URL
    if any(mark in value for mark in "@?#"):
        # Not shown: what stands there is often a password or a key.
        raise ConfigError(
            f"{source}: has a user name, a query or a fragment; allowed: an address such as {DEFAULT_BASE_URL}"
        )
    parts = _plain_address(value)
    if parts is None:
        raise ConfigError(f'{source}: got "{value}"; allowed: an address such as {DEFAULT_BASE_URL}')
    if parts.scheme == "http" and not allow_insecure and not _is_loopback(parts.hostname or ""):
        raise ConfigError(
            f'{source}: got "{value}"; plain http shows the key to the network: use https, or allow it by --allow-insecure'
        )
    return _in_one_spelling(parts)


def _plain_address(value: str) -> SplitResult | None:
    if re.search(r"[\s\x00-\x1f\x7f]", value):
        return None
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        return None
    return parts if parts.scheme in _DEFAULT_PORTS and parts.hostname else None


def _in_one_spelling(parts: SplitResult) -> str:
    """Return the address as rows carry it: a second spelling would be another endpoint, and all jobs be paid for again."""
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname  # `hostname` is in lower case
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/').removesuffix(_DEFAULT_VERSION)}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
