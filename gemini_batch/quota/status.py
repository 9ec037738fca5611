"""The use of every quota that a storage holds, for display."""

from dataclasses import dataclass
from datetime import datetime

from gemini_batch.quota.model_quota import ModelQuota
from gemini_batch.quota.results import Used
from gemini_batch.quota.run_budget import is_budget
from gemini_batch.quota.state import as_seen_by, values_of
from gemini_batch.quota.storage.base import LedgerStorage, QuotaKey
from gemini_batch.records import Limits


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """The use of one model's quota at a moment, UTC, for display.

    `used` is what counts against each limit of the last run, also where it has no limit. Nothing is
    sent for `paused_s` seconds, and on a day that the server closed.
    """

    key: QuotaKey
    used: tuple[Used, ...]
    paused_s: float
    paused_why: str
    is_day_closed: bool
    at: datetime


def statuses(storage: LedgerStorage, utc: datetime) -> list[QuotaStatus]:
    """Return all quotas that a storage holds, in the order of endpoint, project and model.

    Raises:
        StorageError: It can't be read, or is damaged.
        ConfigError: A newer version wrote it.
    """
    states, clock_s, server_id = storage.scan()
    found = []
    for key, stored in states.items():
        if stored is None or is_budget(key):
            continue
        values = values_of(stored)
        limits = Limits(**values["limits"])
        state = as_seen_by(values, limits, ModelQuota(limits))
        if storage.has_own_clock:
            now_s = clock_s + state.shift_s
        else:
            now_s = clock_s
            state.follow(now_s, server_id, utc)
        quota = state.quota
        used, (paused_s, why) = quota.used(now_s, utc), quota.pause_left(now_s)
        found.append(QuotaStatus(key, used, paused_s, why, quota.is_day_closed(utc), utc))
    return found
