"""The settings of a run; its options, which need pydantic, are in `run_config`."""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use

if TYPE_CHECKING:
    from gemini_batch.config.settings import Settings, Timeouts, concurrency_for

__getattr__ = on_first_use(
    __name__,
    {
        "Settings": "settings",
        "Timeouts": "settings",
        "concurrency_for": "settings",
    },
)
