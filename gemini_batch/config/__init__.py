"""The settings of a run; its options, which need pydantic, are in `run_config`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.config.settings import Settings, Timeouts, concurrency_for

# Imported on first use: a command needs few of them.
_MODULE_OF = {
    "Settings": "settings",
    "Timeouts": "settings",
    "concurrency_for": "settings",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value
