"""The options of a run, and the settings made from them."""

from gemini_batch.config.run_config import RunConfig
from gemini_batch.config.settings import Settings, Timeouts, concurrency_for

__all__ = ["RunConfig", "Settings", "Timeouts", "concurrency_for"]
