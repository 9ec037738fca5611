"""Reference images: looked up by the manifest's words, and made smaller where a run asks for it."""

from gemini_batch.inputs.faults import ImageChangedError, InputImageError
from gemini_batch.inputs.lookup import Inputs
from gemini_batch.inputs.shrink import MAX_SOURCE_PIXELS, Shrinker

__all__ = ["MAX_SOURCE_PIXELS", "ImageChangedError", "InputImageError", "Inputs", "Shrinker"]
