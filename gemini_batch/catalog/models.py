"""The image models that are known, and what each of them offers; the data is in `models.toml`."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from gemini_batch.wording import shown

DEFAULT_MODEL = "gemini-3-pro-image-preview"
DEFAULT_IMAGE_SIZE = "1K"
# Documented for the Pro and 3.1 Flash models: https://ai.google.dev/gemini-api/docs/image-generation (2026-11-22).
MAX_INPUT_IMAGES = 14
MODEL_PREFIX = "models/"
_is_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch


@dataclass(frozen=True, slots=True)
class ImageModel:
    """What one model offers.

    Attributes:
        id: As it stands in the URL, without `models/`.
        state: Preview, stable, deprecated; for a person.
        image_sizes: Values of `image_size`.
        aspect_ratios: Values of `aspect_ratio`.
        mime_types: What it answers with, the usual one first.
        output_tokens: Tokens of one image, by size; a size that is missing has no published number.
        input_image_tokens: Tokens of one reference image.
        successor: The model that Google names in its place, if it is to be shut down.
    """

    id: str
    state: str
    image_sizes: tuple[str, ...]
    aspect_ratios: tuple[str, ...]
    mime_types: tuple[str, ...]
    output_tokens: Mapping[str, int]
    input_image_tokens: int
    successor: str | None = None


@cache
def known() -> Mapping[str, ImageModel]:
    """Return all known models by id."""
    table = tomllib.loads(resources.files(__package__).joinpath("models.toml").read_text("utf-8"))
    return MappingProxyType({id_: _model(id_, entry) for id_, entry in table["models"].items()})


def _model(id_: str, entry: dict[str, object]) -> ImageModel:
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()
    }
    return ImageModel(id=id_, **values)  # type: ignore[arg-type]  # the shape of our own file, held by a test


def find(model: str) -> ImageModel | None:
    """Return what is known of a model, or None: a new one is used without checks."""
    return known().get(model)


def successor(model: str) -> str | None:
    """Return the model that Google names in place of this one, if it does."""
    found = find(model)
    return found.successor if found else None


def fault(model: str) -> str | None:
    """Return what is wrong with a model's id, which becomes a part of the URL; None when nothing is."""
    if _is_id(model):
        return None
    return f"got {shown(model)}; a model's id has letters, digits, dots and hyphens, as {DEFAULT_MODEL} has"


def bare(model: str) -> str:
    """Return the model's id without the `models/` that Google's own requests carry."""
    return model.removeprefix(MODEL_PREFIX)
