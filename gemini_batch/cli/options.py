"""From the command line to the one checked value that a run takes."""

from argparse import Namespace
from pathlib import Path

from gemini_batch import config
from gemini_batch.config import RunConfig
from gemini_batch.policy import models, tiers
from gemini_batch.records import Status


def run_config(options: Namespace, *, needs_key: bool) -> RunConfig:
    """Return the settings of a run.

    Args:
        options: The parsed arguments of `run` or `plan`.
        needs_key: Whether a request may be sent.

    Raises:
        ConfigError: A flag, the config file or the environment is wrong.
        NoKeyError: A key is needed, and there is none.
    """
    tables = config.read_tables(options.config)
    limits = tiers.limits_of(options.tier, tables.get("tiers", {}), _limit_flags(options), source=str(options.config))
    if options.simulate:
        base_url, endpoint, key = None, config.SIMULATOR_ENDPOINT, "simulated"
    else:
        base_url = config.base_url(options.base_url, allow_insecure=options.allow_insecure)
        endpoint, key = base_url, config.api_key() if needs_key else ""
    return RunConfig(
        tier=options.tier,
        limits=limits,
        endpoint=endpoint,
        base_url=base_url,
        model=models.bare(options.model or models.DEFAULT_MODEL),
        api_key=key,
        auth=getattr(options, "auth", "header"),
        concurrency=getattr(options, "concurrency", None) or config.concurrency_for(limits),
        max_attempts=getattr(options, "max_attempts", 1),
        retry=frozenset(Status(status) for status in options.retry if status != "missing"),
        retry_missing="missing" in options.retry,
        skip_uncertain=getattr(options, "on_uncertain", "retry") == "skip",
        max_input_pixels=options.max_input_pixels,
        reuse_from=tuple(dict.fromkeys(options.reuse_from)),
        deadline_s=getattr(options, "deadline", None),
        waits_for_reset=getattr(options, "wait_for_reset", False),
        quota_scope=options.quota_scope,
        tables=tables,
    )


def output_folder(options: Namespace) -> Path:
    """Return where a run writes: `--out`, else beside the manifest, never the current folder."""
    if options.out is not None:
        return Path(options.out)
    manifest: Path = options.manifest
    return manifest.with_name(f"{manifest.stem}.{'simulated' if options.simulate else 'out'}")


def _limit_flags(options: Namespace) -> dict[str, float | None]:
    return {
        "requests_per_min": options.rpm,
        "tokens_per_min": options.tpm,
        "images_per_min": options.ipm,
        "requests_per_day": options.rpd,
        "usd_per_10min": options.usd_per_10min,
        "usd_per_day": options.usd_per_day,
        "minute_s": options.minute,
    }
