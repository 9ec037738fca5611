"""Reference images: looked up by the manifest's paths, and downscaled if a run asks for it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.inputs.downscale import Downscaler
    from gemini_batch.inputs.errors import ImageChangedError, InputImageError
    from gemini_batch.inputs.lookup import Inputs

# Imported on first use: a command needs few of them.
_MODULE_OF = {
    "Downscaler": "downscale",
    "ImageChangedError": "errors",
    "InputImageError": "errors",
    "Inputs": "lookup",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value
