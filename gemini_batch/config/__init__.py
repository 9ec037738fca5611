"""The settings of a run; its options, which need pydantic, are in `run_config`."""

from gemini_batch.config.settings import Settings, Timeouts, concurrency_for
