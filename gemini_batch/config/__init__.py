"""What is asked of a run, and the settings that follow."""

from gemini_batch.config.environment import (
    DEFAULT_BASE_URL,
    api_key,
    base_url,
    checked_key,
    read_tables,
)
from gemini_batch.config.run_config import RunConfig
from gemini_batch.config.settings import SIMULATOR_ENDPOINT, Settings, Timeouts, concurrency_for

__all__ = [
    "DEFAULT_BASE_URL",
    "SIMULATOR_ENDPOINT",
    "RunConfig",
    "Settings",
    "Timeouts",
    "api_key",
    "base_url",
    "checked_key",
    "concurrency_for",
    "read_tables",
]
