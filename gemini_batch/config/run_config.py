"""What is asked of a run, by flags or from Python, and what follows from it: flags win over the config file, that over the built-in tables."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gemini_batch.catalog import models, tiers
from gemini_batch.config import environment
from gemini_batch.config.settings import SIMULATOR_ENDPOINT, Settings, concurrency_for
from gemini_batch.errors import ConfigError
from gemini_batch.records import Status

Whole: TypeAlias = Annotated[int, Field(ge=1)]
Amount: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Again: TypeAlias = Literal["blocked", "rejected", "uncertain", "missing"]

# The field of `Limits` that each of ours stands for.
_OWN_LIMITS = {
    "requests_per_min": "rpm",
    "tokens_per_min": "tpm",
    "images_per_min": "ipm",
    "requests_per_day": "rpd",
    "usd_per_10min": "usd_per_10min",
    "usd_per_day": "usd_per_day",
    "minute_s": "minute_s",
}


class RunConfig(BaseModel):
    """What is asked of a run, from the command line or from Python; a run without any of it suits the free tier."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    out: Path | str | None = Field(
        default=None, description="The output folder; beside the manifest if absent."
    )
    tier: str = Field(
        default="free", description="free, pay-as-you-go, enterprise, or one of `config_file`."
    )
    rpm: Whole | None = Field(
        default=None, description="Requests a minute, in place of the tier's."
    )
    tpm: Whole | None = Field(default=None, description="Input tokens a minute.")
    ipm: Whole | None = Field(default=None, description="Images a minute.")
    rpd: Whole | None = Field(default=None, description="Requests a day, Pacific time.")
    usd_per_10min: Amount | None = Field(
        default=None, description="Dollars at list price in any ten minutes."
    )
    usd_per_day: Amount | None = Field(
        default=None, description="Dollars at list price a day, Pacific time."
    )
    minute_s: Amount | None = Field(
        default=None, description="Seconds that a simulator in a hurry calls a minute."
    )
    quota_scope: str | None = Field(
        default=None, description="Shares the quota with runs of this name."
    )
    config_file: Path | str | None = Field(
        default=None, description="A TOML file with [tiers.NAME] and [prices]."
    )
    model: str = Field(default=models.DEFAULT_MODEL, description="For jobs that name none.")
    max_cost_usd: Amount | None = Field(
        default=None, description="Most that the run may cost, at list price."
    )
    max_input_pixels: Whole | None = Field(
        default=None, description="Larger input images are sent made smaller."
    )
    reuse_from: tuple[Path | str, ...] = Field(
        default=(), description="Output folders whose answers are copied, at $0."
    )
    retry: frozenset[Again] = Field(
        default=frozenset(), description="Finished calls that are sent again."
    )
    on_uncertain: Literal["retry", "skip"] = Field(
        default="retry",
        description="What to do with a call that may have been billed and gave nothing.",
    )
    concurrency: Whole | None = Field(
        default=None, description="Most calls in flight; by the quota if absent."
    )
    max_attempts: Whole = Field(
        default=6, description="How often one call is sent before it is `failed`."
    )
    deadline_s: Amount | None = Field(
        default=None, description="No call is taken in after so many seconds."
    )
    wait_for_reset: bool = Field(
        default=False, description="Sleep until the day's quota resets, in place of ending."
    )
    simulate: bool = Field(
        default=False, description="Run against a simulator in this process: no key, no cost."
    )
    api_key: str | None = Field(
        default=None, repr=False, description="That of the environment if absent."
    )
    base_url: str | None = Field(
        default=None, description="Another server; that of the environment, or Google."
    )
    allow_insecure: bool = Field(default=False, description="Allow plain http to another machine.")
    auth: Literal["header", "query"] = Field(default="header", description="Where the key goes.")

    def settings(self, *, needs_key: bool = True) -> "Settings":
        """Return the settings that follow, from the tier's tables, the config file and the environment.

        Args:
            needs_key: Whether a request may be sent.

        Raises:
            ConfigError: The tier, the config file, the address or the key is wrong, or there are an address and `simulate`.
            NoKeyError: A key is needed, and there is none.
        """
        tables = environment.read_tables(
            Path(self.config_file) if self.config_file is not None else None
        )
        own = {name: getattr(self, short) for name, short in _OWN_LIMITS.items()}
        limits = tiers.limits_of(
            self.tier, tables.get("tiers", {}), own, source=str(self.config_file)
        )
        if self.simulate and self.base_url is not None:
            raise ConfigError(
                "--simulate: sends to a simulator, and --base-url to another server: leave one of them out"
            )
        if self.simulate:
            address, endpoint, key = None, SIMULATOR_ENDPOINT, "simulated"
        else:
            address = endpoint = environment.base_url(
                self.base_url, allow_insecure=self.allow_insecure
            )
            key = self._key() if needs_key else ""
        return Settings(
            tier=self.tier,
            limits=limits,
            endpoint=endpoint,
            base_url=address,
            model=models.bare(self.model),
            api_key=key,
            auth=self.auth,
            concurrency=self.concurrency or concurrency_for(limits),
            max_attempts=self.max_attempts,
            max_cost_usd=self.max_cost_usd,
            retry=frozenset(Status(status) for status in self.retry if status != "missing"),
            retry_missing="missing" in self.retry,
            skip_uncertain=self.on_uncertain == "skip",
            max_input_pixels=self.max_input_pixels,
            reuse_from=tuple(dict.fromkeys(Path(out) for out in self.reuse_from)),
            deadline_s=self.deadline_s,
            waits_for_reset=self.wait_for_reset,
            quota_scope=self.quota_scope,
            tables=tables,
        )

    def _key(self) -> str:
        return (
            environment.checked_key("api_key", self.api_key)
            if self.api_key
            else environment.api_key()
        )
