"""The options of a run, as asked for, and the settings made from them. Imports no pydantic."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from gemini_batch.catalog import models, tiers
from gemini_batch.config import environment, google_login, keys, launchers, network
from gemini_batch.config.bucket import address_of
from gemini_batch.config.endpoints import GOOGLE, SIMULATOR
from gemini_batch.config.ledger_url import ledger
from gemini_batch.config.settings import (
    RouteChoice,
    Settings,
    Timeouts,
    concurrency_for,
)
from gemini_batch.config.vertex import Vertex
from gemini_batch.errors import ConfigError, FlagsError
from gemini_batch.records import ServiceTier, Status
from gemini_batch.records.shard import Shard
from gemini_batch.store.address import BucketAddress, is_address


class Asked:
    """The options of a run as the command line gives them; `RunConfig` documents each of them.

    The parser of arguments has checked them already, so that a command starts without pydantic.
    """

    out: Path | str | None = None
    scratch: Path | str | None = None
    scratch_max_gb: float = 4.0
    tier: str = "free"
    rpm: int | None = None
    tpm: int | None = None
    ipm: int | None = None
    rpd: int | None = None
    usd_per_10min: float | None = None
    usd_per_day: float | None = None
    minute_s: float | None = None
    ledger: str | None = None
    quota_scope: str | None = None
    config_file: Path | str | None = None
    model: str = models.DEFAULT_MODEL
    service_tier: ServiceTier = "standard"
    max_cost_usd: float | None = None
    max_input_pixels: int | None = None
    reuse_from: Collection[Path | str] = ()
    only: Collection[str] = ()
    redo: Collection[str] = ()
    limit: int | None = None
    retry: Collection[str] = ()
    adopt_images: bool = False
    forget: bool = False
    on_uncertain: Literal["retry", "skip"] = "retry"
    shard: str | None = None
    run_id: str | None = None
    concurrency: int | None = None
    max_attempts: int = 6
    keep_going: bool = False
    timeout_s: float | None = None
    deadline_s: float | None = None
    wait_for_reset: bool = False
    route: RouteChoice = "interactive"
    wait: bool = False
    batch_patience_s: float = 26 * 3600.0
    batch_lines: int = 500
    simulate: bool = False
    api_key: str | None = None
    base_url: str | None = None
    vertex: str | None = None
    allow_insecure: bool = False
    auth: Literal["header", "query"] = "header"

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)
        self.is_model_named = "model" in given


def settings_of(asked: Asked, *, needs_key: bool = True) -> Settings:
    """Return the settings, from the tier's tables, the config file and the environment.

    Raises:
        ConfigError: The tier, the config file, the address, the project or the key is wrong,
            or two options contradict each other, or a proxy can't be used, or
            google-auth is not installed, which `vertex` needs.
        NoKeyError: A key is needed, and there is none.
    """
    file = None if asked.config_file is None else Path(asked.config_file)
    tables = environment.read_tables(file)
    own = {
        "requests_per_min": asked.rpm,
        "tokens_per_min": asked.tpm,
        "images_per_min": asked.ipm,
        "requests_per_day": asked.rpd,
        "usd_per_10min": asked.usd_per_10min,
        "usd_per_day": asked.usd_per_day,
        "minute_s": asked.minute_s,
    }
    limits = tiers.limits_of(
        asked.tier, tables.get("tiers", {}), own, source=str(asked.config_file)
    )
    if asked.simulate and asked.base_url is not None:
        raise ConfigError(
            "--simulate: sends to a simulator, and --base-url to another server: "
            "leave one of them out"
        )
    vertex = environment.vertex(asked.vertex)
    bucket = address_of(asked.out)
    _check_bucket(asked, bucket)
    shard = None if asked.shard is None else launchers.shard_of(asked.shard, os.environ)
    run_id = asked.run_id or (launchers.run_id_of(os.environ) if shard else "")
    _check_route(asked, vertex)
    if shard is not None:
        _check_shared_budget(asked, run_id)
    if vertex is not None:
        _check_vertex(asked)
    if asked.simulate:
        address, endpoint, key = None, SIMULATOR, "simulated"
    else:
        endpoint = environment.base_url(
            asked.base_url,
            allow_insecure=asked.allow_insecure,
            default=GOOGLE if vertex is None else vertex.address,
        )
        address = endpoint if vertex is None else vertex.base_url(endpoint)
        key = _key(asked, vertex) if needs_key else ""
    return Settings(
        tier=asked.tier,
        bucket=bucket,
        scratch_max_bytes=int(asked.scratch_max_gb * 1e9),
        limits=limits,
        endpoint=endpoint,
        base_url=address,
        vertex=vertex,
        model=models.bare(asked.model),
        is_model_named=asked.is_model_named,
        service_tier=asked.service_tier,
        api_key=key,
        auth=asked.auth,
        concurrency=_part(asked.concurrency or concurrency_for(limits), shard),
        max_attempts=asked.max_attempts,
        max_cost_usd=asked.max_cost_usd,
        retry=frozenset(
            Status(each) for each in set(asked.retry) - {"missing", "unfetched"} if ":" not in each
        ),
        retry_missing="missing" in asked.retry,
        retry_unfetched="unfetched" in asked.retry,
        retry_reasons=frozenset(
            reason.strip().upper()
            for each in asked.retry
            for reason in each.partition(":")[2].split(",")
            if reason
        ),
        adopts_images=asked.adopt_images,
        forgets_rows=asked.forget,
        skip_uncertain=asked.on_uncertain == "skip",
        keeps_going=asked.keep_going,
        timeouts=Timeouts.of(asked.timeout_s),
        max_input_pixels=asked.max_input_pixels,
        reuse_from=tuple(dict.fromkeys(Path(out) for out in asked.reuse_from)),
        only=environment.listed_in_files("--only", asked.only),
        redo=environment.listed_in_files("--redo", asked.redo),
        limit=asked.limit,
        deadline_s=asked.deadline_s,
        waits_for_reset=asked.wait_for_reset,
        route=asked.route,
        waits_for_batches=asked.wait or (asked.simulate and asked.route != "interactive"),
        batch_patience_s=asked.batch_patience_s,
        batch_lines=asked.batch_lines,
        # What a simulator in this process counts concerns no other machine.
        ledger=None if asked.simulate and asked.ledger is None else ledger(asked.ledger),
        quota_scope=asked.quota_scope,
        proxy=None if address is None else network.proxy_for(address),
        notices=tuple(google_login.notices()) if vertex and address and needs_key else (),
        tables=tables,
        shard=shard,
        run_id=run_id,
    )


def _check_bucket(asked: Asked, bucket: BucketAddress | None) -> None:
    """Raise a FlagsError if the other options can't be used with a bucket, or without one."""
    if found := next((each for each in map(str, asked.reuse_from) if is_address(each)), None):
        raise FlagsError(
            f"--reuse-from: {found}: is in a bucket: copy it with the command gallery, and name "
            "that copy"
        )
    if bucket is None:
        if asked.scratch is not None:
            raise FlagsError("--scratch: is for an --out in a bucket, such as s3://bucket/x")
        return
    if asked.route != "interactive":
        raise FlagsError(
            f"--route {asked.route}: notes of open batches are on the disk alone, which a run "
            "with a bucket may lose: leave --route out, or choose a folder with --out"
        )


def _check_route(asked: Asked, vertex: Vertex | None) -> None:
    """Raise a FlagsError if calls can't be batched with the other options."""
    if asked.route == "interactive":
        return
    if vertex is not None:
        raise FlagsError(
            f"--route {asked.route}: batches of Vertex AI are another product, which is not "
            "supported: leave --vertex or --route out"
        )
    if asked.service_tier != "standard":
        raise FlagsError(
            f"--route {asked.route}: a batch has no service tier: leave --service-tier or "
            "--route out"
        )


def _check_shared_budget(asked: Asked, run_id: str) -> None:
    """Raise a FlagsError if the workers of a run can't share its budget."""
    if asked.max_cost_usd is None:
        return
    if not run_id:
        raise FlagsError(
            "--max-cost: is of all workers of --shard together, which share it under the name of "
            "the run: add --run-id NAME, the same for all of them and for no other run"
        )
    if asked.route != "interactive":
        raise FlagsError(
            f"--max-cost: workers of --shard do not share the cost of batches, whose answers come "
            f"hours later: run without --shard, or without --route {asked.route}, or without "
            "--max-cost after plan has said what the batches cost"
        )


def _part(concurrency: int, shard: Shard | None) -> int:
    """Return the calls in flight of one worker, at least one."""
    return concurrency if shard is None else max(1, concurrency // shard.count)


def _check_vertex(asked: Asked) -> None:
    """Check that no option of a key is given with a login.

    Raises:
        ConfigError: One is.
    """
    for name, is_given in (("api_key", asked.api_key), ("--auth query", asked.auth == "query")):
        if is_given:
            raise ConfigError(f"{name}: sends a key, and --vertex a login: leave one of them out")


def _key(asked: Asked, vertex: Vertex | None) -> str:
    """Return the key; none where a login takes its place, which must be possible."""
    if vertex is not None:
        google_login.check_installed()
        return ""
    if asked.api_key:
        return keys.checked_key("api_key", asked.api_key)
    return keys.find_key().value
