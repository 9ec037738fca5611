"""The options of a run from Python, which are checked."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gemini_batch.config.asked import Asked, settings_of
from gemini_batch.config.settings import RouteChoice, Settings
from gemini_batch.records import ServiceTier
from gemini_batch.wording import did_you_mean

Whole: TypeAlias = Annotated[int, Field(ge=1)]
Amount: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Again: TypeAlias = Annotated[
    str, Field(pattern=r"^(blocked(:[^,]+(,[^,]+)*)?|rejected|uncertain|missing|unfetched)$")
]

_SEE = "see help(gemini_batch.RunConfig)"
# Flags that have no unit, or another name.
_FLAGS = {
    "max_cost_usd": "--max-cost",
    "timeout_s": "--timeout",
    "deadline_s": "--deadline",
    "minute_s": "--minute",
    "batch_patience_s": "--batch-patience",
    "config_file": "--config",
}


class RunConfig(BaseModel):
    """The options of a run. The defaults suit the free tier.

    Flags override the config file, which overrides the built-in tables.

    Attributes:
        out: The output folder, or the address of a bucket such as `s3://bucket/prefix`; next to
            the manifest if None.
        scratch: The folder in which a run with a bucket works, mirrored to it; one in the user's
            state folder if None.
        scratch_max_gb: Maximum size of the images in it, in gigabytes.
        tier: free, pay-as-you-go, enterprise, or one of `config_file`.
        rpm: Requests per minute, instead of the tier's.
        tpm: Input tokens per minute.
        ipm: Images per minute.
        rpd: Requests per day, Pacific time.
        usd_per_10min: Dollars at list price in any ten minutes.
        usd_per_day: Dollars at list price per day, Pacific time.
        minute_s: Length of a quota "minute" in seconds; for tests with the simulator.
        ledger: The address of a PostgreSQL database, without a password, whose ledger counts the
            quota for several machines; from the environment, or that of this machine, if None.
        quota_scope: Name of a quota; runs with the same name share it. By the key if None.
        config_file: A TOML file with [tiers.NAME] and [prices].
        model: For jobs that name none.
        service_tier: For jobs that name none: `standard`, `flex` or `priority`.
        max_cost_usd: Budget of the run, at list price.
        max_input_pixels: Larger input images are downscaled to this.
        reuse_from: Output folders whose answers are copied, at no cost.
        only: Send only the calls with these ids; an entry is an id, a glob, or `@file` with one per
            line.
        redo: Finished calls that are made again, and paid for again: `discarded` or `stale` ones,
            ids, globs, or `@file`.
        limit: Maximum number of calls to send: the first ones of the manifest that are not done.
        retry: Finished calls that are sent again: `blocked`, `blocked:IMAGE_SAFETY,EMPTY` for
            only these reasons, `rejected`, `uncertain`, `missing` images, or `unfetched` ones.
        adopt_images: Where rows are missing, count existing images as done.
        forget: Where rows are missing, send their calls again, and pay again.
        on_uncertain: Action for a call that may have been billed and has no answer.
        shard: The part of the calls that this worker sends: `3/16`, or `auto`, or `auto/16`, by the
            variables of SLURM, Cloud Run Jobs, AWS Batch, Kubernetes or GNU parallel.
        run_id: The name of the run that all its workers share; by the same variables if None.
        concurrency: Maximum of calls in flight, of all workers together; by the quota if None.
        max_attempts: Attempts of one call before it is `failed`.
        keep_going: Continue after five calls of a model in a row are rejected with one message.
        timeout_s: Seconds that an attempt may wait for its answer; if None 300, and 900 in the
            service tier flex.
        deadline_s: Seconds after which no call is started.
        wait_for_reset: Sleep until the day's quota resets, instead of stopping.
        route: `batch` costs half and takes up to a day; `auto` is `interactive` while the day's
            quota lasts, and then `batch`. Each of them collects what is open.
        wait: Wait until all batches are collected, instead of stopping with exit code 5.
        batch_patience_s: Age of a batch in seconds at which it is cancelled; the calls that it did
            not answer are sent again.
        batch_lines: Maximum number of calls in a batch.
        simulate: Run against a simulator in this process: no key, no cost.
        api_key: The API key; if None it comes from the environment, or from a file.
        base_url: Another server; from the environment, or Google's, if None.
        vertex: A project of Vertex AI, or PROJECT/LOCATION, with the Google Cloud login of the
            environment instead of a key; from the environment if None.
        allow_insecure: Allow plain http to another machine.
        auth: How the key is sent: as the header x-goog-api-key, or as ?key= (`query`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    out: Path | str | None = None
    scratch: Path | str | None = None
    scratch_max_gb: Amount = Asked.scratch_max_gb
    tier: str = Asked.tier
    rpm: Whole | None = None
    tpm: Whole | None = None
    ipm: Whole | None = None
    rpd: Whole | None = None
    usd_per_10min: Amount | None = None
    usd_per_day: Amount | None = None
    minute_s: Amount | None = None
    ledger: str | None = Field(default=None, repr=False)
    quota_scope: str | None = None
    config_file: Path | str | None = None
    model: str = Asked.model
    service_tier: ServiceTier = Asked.service_tier
    max_cost_usd: Amount | None = None
    max_input_pixels: Whole | None = None
    reuse_from: tuple[Path | str, ...] = ()
    only: tuple[str, ...] = ()
    redo: tuple[str, ...] = ()
    limit: Whole | None = None
    retry: frozenset[Again] = frozenset()
    adopt_images: bool = False
    forget: bool = False
    on_uncertain: Literal["retry", "skip"] = Asked.on_uncertain
    shard: str | None = None
    run_id: Annotated[str, Field(pattern=r"^[\w.:@/-]{1,200}$")] | None = None
    concurrency: Whole | None = None
    max_attempts: Whole = Asked.max_attempts
    keep_going: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    deadline_s: Amount | None = None
    wait_for_reset: bool = False
    route: RouteChoice = Asked.route
    wait: bool = False
    batch_patience_s: Annotated[float, Field(ge=0, le=604_800)] = Asked.batch_patience_s
    batch_lines: Annotated[int, Field(ge=1, le=50_000)] = Asked.batch_lines
    simulate: bool = False
    api_key: str | None = Field(default=None, repr=False)
    base_url: str | None = None
    vertex: str | None = None
    allow_insecure: bool = False
    auth: Literal["header", "query"] = Asked.auth

    @model_validator(mode="before")
    @classmethod
    def _has_only_options(cls, given: Any) -> Any:
        """Refuse an option that does not exist, and suggest the nearest one."""
        for name in given if isinstance(given, Mapping) else ():
            if name not in cls.model_fields:
                advice = did_you_mean(str(name), list(cls.model_fields))
                raise ValueError(f"{name}: no such option; {advice or _SEE}")
        return given

    def settings(self, *, needs_key: bool = True) -> Settings:
        """Return the settings, from the tier's tables, the config file and the environment.

        Raises:
            ConfigError: An option or the environment is wrong, as `settings_of` says.
            NoKeyError: A key is needed, and there is none.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return settings_of(Asked(**given), needs_key=needs_key)


def as_options(text: str) -> str:
    """Return a message with the names of options where it has flags."""
    for name in sorted(RunConfig.model_fields, key=len, reverse=True):
        flag = _FLAGS.get(name, f"--{name.replace('_', '-')}")
        text = re.sub(rf"{flag}(?![\w-])", "simulate=True" if name == "simulate" else name, text)
    return text
