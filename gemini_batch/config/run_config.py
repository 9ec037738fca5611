"""The options of a run, from flags or from Python, and the settings made from them."""

import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gemini_batch.catalog import models, tiers
from gemini_batch.config import environment, google_login, keys, launchers, network
from gemini_batch.config.endpoints import GOOGLE
from gemini_batch.config.settings import (
    SIMULATOR_ENDPOINT,
    RouteChoice,
    Settings,
    Timeouts,
    concurrency_for,
)
from gemini_batch.config.vertex import Vertex
from gemini_batch.errors import ConfigError, FlagsError
from gemini_batch.records import ServiceTier, Status
from gemini_batch.records.shard import Shard

Whole: TypeAlias = Annotated[int, Field(ge=1)]
Amount: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Again: TypeAlias = Annotated[
    str, Field(pattern=r"^(blocked(:[^,]+(,[^,]+)*)?|rejected|uncertain|missing|unfetched)$")
]


class RunConfig(BaseModel):
    """The options of a run. The defaults suit the free tier.

    Flags override the config file, which overrides the built-in tables.

    Attributes:
        out: The output folder; next to the manifest if None.
        tier: free, pay-as-you-go, enterprise, or one of `config_file`.
        rpm: Requests per minute, instead of the tier's.
        tpm: Input tokens per minute.
        ipm: Images per minute.
        rpd: Requests per day, Pacific time.
        usd_per_10min: Dollars at list price in any ten minutes.
        usd_per_day: Dollars at list price per day, Pacific time.
        minute_s: Length of a quota "minute" in seconds; for tests with the simulator.
        quota_scope: The quota is shared with runs that have the same name here.
        config_file: A TOML file with [tiers.NAME] and [prices].
        model: For jobs that name none.
        service_tier: For jobs that name none: `standard`, `flex` or `priority`.
        max_cost_usd: Budget of the run, at list price.
        max_input_pixels: Larger input images are downscaled to this.
        reuse_from: Output folders whose answers are copied, at $0.
        only: Send calls with these ids alone; an entry is an id, a glob, or `@file` with one per
            line.
        redo: Finished calls that are made again, and paid for again: `discarded` ones, ids, globs,
            or `@file`.
        limit: Send only the first calls of the manifest that are not done, so many.
        retry: Finished calls that are sent again: `blocked`, `blocked:IMAGE_SAFETY,EMPTY` for
            these reasons alone, `rejected`, `uncertain`, `missing` images, or `unfetched` ones.
        adopt_images: Where rows are gone, take the images that are there as done.
        forget: Where rows are gone, send their calls again.
        on_uncertain: Action for a call that may have been billed and has no answer.
        shard: The part of the calls that this worker sends: `3/16`, or `auto`, or `auto/16`, by the
            variables of SLURM, Cloud Run Jobs, AWS Batch, Kubernetes or GNU parallel.
        run_id: The name of the run that all its workers share; by the same variables if None.
        concurrency: Maximum of calls in flight, of all workers together; by the quota if None.
        max_attempts: Attempts of one call before it is `failed`.
        keep_going: Continue where call after call of a model is rejected with the same message.
        timeout_s: Seconds that an attempt may take, while its answer does not arrive; 300 if None,
            and 900 in the service tier flex.
        deadline_s: Seconds after which no call is started.
        wait_for_reset: Sleep until the day's quota resets, instead of ending.
        route: `batch` costs half and takes up to a day; `auto` is `interactive` while the day's
            quota lasts, and then `batch`. Each of them collects what is open.
        wait: Wait until all batches are collected, instead of ending with 5.
        batch_patience_s: Age of a batch in seconds at which it is cancelled and its rest is free.
        batch_lines: Most calls of one batch.
        simulate: Run against a simulator in this process: no key, no cost.
        api_key: The API key; if None it comes from the environment, or from a file.
        base_url: Another server; from the environment, or Google's, if None.
        vertex: A project of Vertex AI, or PROJECT/LOCATION, with the Google Cloud login of the
            environment instead of a key; from the environment if None.
        allow_insecure: Allow plain http to another machine.
        auth: The place of the key in a request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    out: Path | str | None = None
    tier: str = "free"
    rpm: Whole | None = None
    tpm: Whole | None = None
    ipm: Whole | None = None
    rpd: Whole | None = None
    usd_per_10min: Amount | None = None
    usd_per_day: Amount | None = None
    minute_s: Amount | None = None
    quota_scope: str | None = None
    config_file: Path | str | None = None
    model: str = models.DEFAULT_MODEL
    service_tier: ServiceTier = "standard"
    max_cost_usd: Amount | None = None
    max_input_pixels: Whole | None = None
    reuse_from: tuple[Path | str, ...] = ()
    only: tuple[str, ...] = ()
    redo: tuple[str, ...] = ()
    limit: Whole | None = None
    retry: frozenset[Again] = frozenset()
    adopt_images: bool = False
    forget: bool = False
    on_uncertain: Literal["retry", "skip"] = "retry"
    shard: str | None = None
    run_id: Annotated[str, Field(pattern=r"^[\w.:@/-]{1,200}$")] | None = None
    concurrency: Whole | None = None
    max_attempts: Whole = 6
    keep_going: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    deadline_s: Amount | None = None
    wait_for_reset: bool = False
    route: RouteChoice = "interactive"
    wait: bool = False
    batch_patience_s: Annotated[float, Field(ge=0, le=604_800)] = 26 * 3600.0
    batch_lines: Annotated[int, Field(ge=1, le=50_000)] = 500
    simulate: bool = False
    api_key: str | None = Field(default=None, repr=False)
    base_url: str | None = None
    vertex: str | None = None
    allow_insecure: bool = False
    auth: Literal["header", "query"] = "header"

    def settings(self, *, needs_key: bool = True) -> Settings:
        """Return the settings, from the tier's tables, the config file and the environment.

        Raises:
            ConfigError: The tier, the config file, the address, the project or the key is wrong,
                or two options contradict each other, or a proxy or certificates can't be used, or
                google-auth is not installed, which `vertex` needs.
            NoKeyError: A key is needed, and there is none.
        """
        file = None if self.config_file is None else Path(self.config_file)
        tables = environment.read_tables(file)
        own = {
            "requests_per_min": self.rpm,
            "tokens_per_min": self.tpm,
            "images_per_min": self.ipm,
            "requests_per_day": self.rpd,
            "usd_per_10min": self.usd_per_10min,
            "usd_per_day": self.usd_per_day,
            "minute_s": self.minute_s,
        }
        limits = tiers.limits_of(
            self.tier, tables.get("tiers", {}), own, source=str(self.config_file)
        )
        if self.simulate and self.base_url is not None:
            raise ConfigError(
                "--simulate: sends to a simulator, and --base-url to another server: "
                "leave one of them out"
            )
        vertex = environment.vertex(self.vertex)
        shard = None if self.shard is None else launchers.shard_of(self.shard, os.environ)
        self._check_route(vertex)
        run_id = self.run_id or (launchers.run_id_of(os.environ) if shard else "")
        if shard is not None:
            self._check_shared_budget(run_id)
        if vertex is not None:
            self._check_vertex()
        if self.simulate:
            address, endpoint, key = None, SIMULATOR_ENDPOINT, "simulated"
        else:
            endpoint = environment.base_url(
                self.base_url,
                allow_insecure=self.allow_insecure,
                default=GOOGLE if vertex is None else vertex.address,
            )
            address = endpoint if vertex is None else vertex.base_url(endpoint)
            key = self._key(vertex) if needs_key else ""
        return Settings(
            tier=self.tier,
            limits=limits,
            endpoint=endpoint,
            base_url=address,
            vertex=vertex,
            model=models.bare(self.model),
            is_model_named="model" in self.model_fields_set,
            service_tier=self.service_tier,
            api_key=key,
            auth=self.auth,
            concurrency=_part(self.concurrency or concurrency_for(limits), shard),
            max_attempts=self.max_attempts,
            max_cost_usd=self.max_cost_usd,
            retry=frozenset(
                Status(each) for each in self.retry - {"missing", "unfetched"} if ":" not in each
            ),
            retry_missing="missing" in self.retry,
            retry_unfetched="unfetched" in self.retry,
            retry_reasons=frozenset(
                reason.strip().upper()
                for each in self.retry
                for reason in each.partition(":")[2].split(",")
                if reason
            ),
            adopts_images=self.adopt_images,
            forgets_rows=self.forget,
            skip_uncertain=self.on_uncertain == "skip",
            keeps_going=self.keep_going,
            timeouts=Timeouts.of(self.timeout_s),
            max_input_pixels=self.max_input_pixels,
            reuse_from=tuple(dict.fromkeys(Path(out) for out in self.reuse_from)),
            only=environment.listed_in_files("--only", self.only),
            redo=environment.listed_in_files("--redo", self.redo),
            limit=self.limit,
            deadline_s=self.deadline_s,
            waits_for_reset=self.wait_for_reset,
            route=self.route,
            waits_for_batches=self.wait or (self.simulate and self.route != "interactive"),
            batch_patience_s=self.batch_patience_s,
            batch_lines=self.batch_lines,
            quota_scope=self.quota_scope,
            proxy=None if address is None else network.proxy_for(address),
            certificates=network.trusted_certificates() if address and needs_key else None,
            notices=tuple(google_login.notices()) if vertex and address and needs_key else (),
            tables=tables,
            shard=shard,
            run_id=run_id,
        )

    def _check_route(self, vertex: Vertex | None) -> None:
        """Raise a FlagsError if calls can't be batched with the other options."""
        if self.route == "interactive":
            return
        if vertex is not None:
            raise FlagsError(
                f"--route {self.route}: batches of Vertex AI are another product, which is not "
                "supported: leave --vertex or --route out"
            )
        if self.service_tier != "standard":
            raise FlagsError(
                f"--route {self.route}: a batch has no service tier: leave --service-tier or "
                "--route out"
            )

    def _check_shared_budget(self, run_id: str) -> None:
        """Raise a FlagsError if the workers of a run can't share its budget."""
        if self.max_cost_usd is None:
            return
        if not run_id:
            raise FlagsError(
                "--max-cost: is of all workers of --shard together, which share it under the name "
                "of the run: add --run-id NAME, the same for all of them and for no other run"
            )
        if self.route != "interactive":
            raise FlagsError(
                f"--max-cost: workers of --shard do not share the cost of batches: leave --route "
                f"{self.route} or --max-cost out"
            )

    def _check_vertex(self) -> None:
        """Check that no option of a key is given with a login.

        Raises:
            ConfigError: One is.
        """
        for name, is_given in (("api_key", self.api_key), ("--auth query", self.auth == "query")):
            if is_given:
                raise ConfigError(
                    f"{name}: sends a key, and --vertex a login: leave one of them out"
                )

    def _key(self, vertex: Vertex | None) -> str:
        """Return the key; none where a login takes its place, which must be possible."""
        if vertex is not None:
            google_login.check_installed()
            return ""
        if self.api_key:
            return keys.checked_key("api_key", self.api_key)
        return keys.find_key().value


def _part(concurrency: int, shard: Shard | None) -> int:
    """Return the calls in flight of one worker, at least one."""
    return concurrency if shard is None else max(1, concurrency // shard.count)
