"""The known image models and their features; the data is in `models.toml`."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from gemini_batch.wording import shown

DEFAULT_MODEL = "gemini-3-pro-image-preview"
DEFAULT_IMAGE_SIZE = "1K"
# Documented for the Pro and 3.1 Flash models:
# https://ai.google.dev/gemini-api/docs/image-generation (2026-11-22).
MAX_INPUT_IMAGES = 14
_is_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch


@dataclass(frozen=True, slots=True)
class ImageModel:
    """Features of one model.

    Attributes:
        id: As in the URL, without `models/`.
        output_tokens: Tokens of one image, by size; sizes without a published number are missing.
        input_image_tokens: Tokens of one reference image.
        successor: The model that Google recommends instead, if it will be shut down.
    """

    id: str
    image_sizes: Sequence[str]
    aspect_ratios: Sequence[str]
    output_tokens: Mapping[str, int]
    input_image_tokens: int
    successor: str | None = None


@cache
def known() -> Mapping[str, ImageModel]:
    """Return all known models by id."""
    table = tomllib.loads(resources.files(__package__).joinpath("models.toml").read_text("utf-8"))
    return {id_: ImageModel(id_, **entry) for id_, entry in table["models"].items()}


def find(model: str) -> ImageModel | None:
    """Return a known model, or None: a new one is used without checks."""
    return known().get(model)


def successor(model: str) -> str | None:
    """Return the model that Google recommends instead of this one, if any."""
    found = find(model)
    return found.successor if found else None


def fault(model: str) -> str | None:
    """Return the problem of a model's id, which is part of the URL; None for a valid id."""
    if _is_id(model):
        return None
    rule = f"a model's id has letters, digits, dots and hyphens, as {DEFAULT_MODEL} has"
    return f"got {shown(model)}; {rule}"


def bare(model: str) -> str:
    """Return the model's id without the `models/` that Google's own requests carry."""
    return model.removeprefix("models/")
