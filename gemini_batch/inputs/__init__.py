"""Reference images: looked up by the manifest's paths, and downscaled if a run asks for it."""

from gemini_batch.inputs.downscale import Downscaler
from gemini_batch.inputs.errors import ImageChangedError, InputImageError
from gemini_batch.inputs.lookup import Inputs
