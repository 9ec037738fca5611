"""Reference images: looked up by the manifest's paths, and downscaled if a run asks for it."""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use

if TYPE_CHECKING:
    from gemini_batch.inputs.downscale import Downscaler
    from gemini_batch.inputs.errors import ImageChangedError, InputImageError
    from gemini_batch.inputs.lookup import Inputs

__getattr__ = on_first_use(
    __name__,
    {
        "Downscaler": "downscale",
        "ImageChangedError": "errors",
        "InputImageError": "errors",
        "Inputs": "lookup",
    },
)
