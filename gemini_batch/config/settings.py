"""The final settings of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from gemini_batch.config.network import Proxy, trusted_certificates
from gemini_batch.config.vertex import Vertex
from gemini_batch.records import Limits, ServiceTier, Status
from gemini_batch.records.shard import Shard
from gemini_batch.store.address import BucketAddress

if TYPE_CHECKING:  # only what sends needs it
    from ssl import SSLContext

# An answer takes 20 to 140 s (see Timeouts), so a minute's quota needs this many minutes' worth of
# calls in flight.
_MINUTES_IN_FLIGHT = 2.5
_MIN_CONCURRENCY, _MAX_CONCURRENCY = 4, 128

RouteChoice: TypeAlias = Literal["interactive", "batch", "auto"]
"""`auto` is interactive while the day's quota lasts, and then batch."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts of one attempt, in seconds.

    Measured medians: 19 s for 1K on the Pro model, 35 s for 4K, 35 to 142 s with several reference
    images; a dropped connection is still billed, so the whole is generous (collected 2026-11-22).

    Attributes:
        connect_s: For the connection.
        between_bytes_s: For a pause within the answer, after its first byte.
        whole_s: From the request to the end of the answer; a large one that still arrives is
            given more.
        flex_s: The same in the service tier flex, which answers within 1 to 15 minutes
            (https://ai.google.dev/gemini-api/docs/flex-inference, 2026-09-22).
    """

    connect_s: float = 10.0
    between_bytes_s: float = 60.0
    whole_s: float = 300.0
    flex_s: float = 900.0

    @classmethod
    def of(cls, whole_s: float | None) -> Self:
        """Return the timeouts of an attempt that takes `whole_s` at most; the default if None."""
        timeouts = cls()
        if whole_s is None:
            return timeouts
        return cls(
            min(timeouts.connect_s, whole_s),
            min(timeouts.between_bytes_s, whole_s),
            whole_s,
            flex_s=whole_s,
        )

    def whole_of(self, tier: ServiceTier) -> float:
        """Return the seconds that an attempt in a service tier may take."""
        return self.flex_s if tier == "flex" else self.whole_s


@dataclass(frozen=True, slots=True)
class Settings:
    """The final settings of one run, made by `RunConfig.settings`, which documents the others.

    Attributes:
        limits: The limits of each model.
        endpoint: The `endpoint` of rows: the base URL, or `simulator`.
        base_url: The server, with the path of the project for Vertex AI; None starts the embedded
            simulator.
        vertex: The project of Vertex AI, whose calls are sent with a login instead of a key.
        api_key: Never printed, never written.
        auth: `header` sends `x-goog-api-key`, `query` sends `?key=`.
        bucket: Where the output folder is mirrored to; None for a folder alone.
        scratch_max_bytes: The most space of images in the folder of a run with a bucket.
        is_model_named: The user named `model`: it is never replaced by another.
        service_tier: Of jobs that name none.
        retry: Statuses that are sent again although they are final.
        retry_missing: A finished image that the user deleted is made, and paid for, again.
        retry_unfetched: An answer whose image was not fetched is made, and paid for, again.
        retry_reasons: Blocked calls with one of these reasons, in capitals, are sent again.
        adopts_images: An image that no row names is taken for the answer of its call.
        forgets_rows: Calls whose rows are gone are sent, and paid for, again.
        skip_uncertain: A call that may have been billed and has no answer is left `uncertain`,
            instead of sent again.
        keeps_going: A model is not stopped when call after call is rejected with the same message.
        route: The way of new calls; open batches are collected by each of them.
        waits_for_batches: The run ends when no batch is open.
        batch_patience_s: Age of a batch at which it is cancelled.
        batch_lines: Most calls of one batch.
        ledger: Address of the ledger that machines share, which may have a password; None is that
            of this machine, or one in memory for the embedded simulator.
        quota_scope: Name of the project whose quota is used; None takes that of Vertex AI, or
            derives it from the key.
        proxy: The forward proxy of the environment for `base_url`.
        certificates: All that are trusted, if the environment names some besides the system's; see
            `to_send`.
        notices: Sentences for the user about what of the environment is not used.
        tables: The config file's tables, for tiers and prices.
        shard: The part of the calls that this worker sends; None for all.
        run_id: The name of the run that all its workers share; "" without one.
    """

    tier: str
    limits: Limits
    endpoint: str
    base_url: str | None
    model: str
    bucket: BucketAddress | None = None
    scratch_max_bytes: int = 4_000_000_000
    is_model_named: bool = False
    service_tier: ServiceTier = "standard"
    vertex: Vertex | None = None
    api_key: str = field(default="", repr=False)
    auth: str = "header"
    concurrency: int = _MAX_CONCURRENCY
    max_attempts: int = 6
    max_cost_usd: float | None = None
    retry: frozenset[Status] = frozenset()
    retry_missing: bool = False
    retry_unfetched: bool = False
    retry_reasons: frozenset[str] = frozenset()
    adopts_images: bool = False
    forgets_rows: bool = False
    skip_uncertain: bool = False
    keeps_going: bool = False
    timeouts: Timeouts = Timeouts()
    max_input_pixels: int | None = None
    reuse_from: tuple[Path, ...] = ()
    only: tuple[str, ...] = ()
    redo: tuple[str, ...] = ()
    limit: int | None = None
    deadline_s: float | None = None
    waits_for_reset: bool = False
    route: RouteChoice = "interactive"
    waits_for_batches: bool = False
    batch_patience_s: float = 26 * 3600.0
    batch_lines: int = 500
    ledger: str | None = field(default=None, repr=False)
    quota_scope: str | None = None
    proxy: Proxy | None = None
    certificates: "SSLContext | None" = field(default=None, repr=False, compare=False)
    notices: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    shard: Shard | None = None
    run_id: str = ""

    @property
    def is_part(self) -> bool:
        """True if the run is for a part of the manifest."""
        return bool(self.only) or self.limit is not None

    def to_send(self) -> "Settings":
        """Return the settings with `certificates`, which take a moment to read.

        Raises:
            ConfigError: The environment names a file without certificates.
        """
        if self.base_url is None or self.certificates is not None:
            return self
        return replace(self, certificates=trusted_certificates())


def concurrency_for(limits: Limits) -> int:
    """Return the calls in flight with which slow answers still use up the minute's quota."""
    if limits.requests_per_min is None:
        return _MAX_CONCURRENCY
    wanted = round(limits.requests_per_min * _MINUTES_IN_FLIGHT)
    return max(_MIN_CONCURRENCY, min(_MAX_CONCURRENCY, wanted))
