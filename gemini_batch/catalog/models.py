"""The known image models and their features; the data is in `models.toml`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Literal

from gemini_batch.catalog import built_in_table
from gemini_batch.wording import shown

DEFAULT_MODEL = "gemini-3-pro-image-preview"
DEFAULT_IMAGE_SIZE = "1K"
# Documented for the Pro and 3.1 Flash models:
# https://ai.google.dev/gemini-api/docs/image-generation (2026-11-22).
MAX_INPUT_IMAGES = 14
# The longest answer of most image models, thinking included (Google's model pages, 2026-11-22).
MAX_OUTPUT_TOKENS = 32_768
_is_id = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*").fullmatch


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """Features of one model.

    Attributes:
        id: As in the URL, without `models/`.
        since: The date of its state, by Google's calendar.
        note: More about the state, for the user; "" for nothing.
        output_tokens: Tokens of one image, by size; sizes without a published number are missing.
        input_image_tokens: Tokens of one reference image.
        refuses: Features that a request must not have, in snake_case: `seed`, `google_search`.
        successor: The model that Google recommends instead, if there is one.
        thinking: Mean tokens of thinking and text of one answer, by the levels that it offers.
        default_thinking: The level of a request that names none; None without levels.
        thinking_tokens: The same mean, of a model without levels.
        max_output_tokens: The longest answer, thinking included.
        usual_references: More reference images may be refused.
    """

    id: str
    state: Literal["stable", "deprecated", "shut_down"]
    since: date
    note: str = ""
    image_sizes: Sequence[str]
    aspect_ratios: Sequence[str]
    output_tokens: Mapping[str, int]
    input_image_tokens: int
    refuses: Sequence[str] = ()
    successor: str | None = None
    thinking: Mapping[str, int] = field(default_factory=dict)
    default_thinking: str | None = None
    thinking_tokens: int = 0
    max_output_tokens: int = MAX_OUTPUT_TOKENS
    usual_references: int = MAX_INPUT_IMAGES


@cache
def known() -> Mapping[str, ImageModel]:
    """Return all known models by id."""
    models = built_in_table("models.toml")["models"]
    return {id_: ImageModel(id=id_, **entry) for id_, entry in models.items()}


def find(model: str) -> ImageModel | None:
    """Return a known model, or None: a new one is used without checks."""
    return known().get(model)


def successor(model: str) -> str | None:
    """Return the model that Google recommends instead of this one, if any."""
    found = find(model)
    return found.successor if found else None


@cache
def same(model: str) -> frozenset[str]:
    """Return all ids of what counts as one model: each one and its announced successor."""
    return frozenset({model, *(other for other in known() if _newest(other) == _newest(model))})


def _newest(model: str) -> str:
    while named := successor(model):
        model = named
    return model


def thinking_tokens(model: str, level: str | None = None) -> int:
    """Return the mean tokens of thinking and text of one answer; 0 for an unknown model.

    Without a level, or with one that the model does not offer, they are those of its default.
    """
    found = find(model)
    if found is None:
        return 0
    tokens = found.thinking.get(level or "", found.thinking.get(found.default_thinking or ""))
    return found.thinking_tokens if tokens is None else tokens


def warning(model: str) -> str | None:
    """Return the state and the successor of a model that will not stay; None for any other."""
    found = find(model)
    if found is None or found.state == "stable":
        return None
    ended = found.state == "shut_down"
    state = "was shut down on" if ended else f"has been {found.state} since"
    note = f" ({found.note})" if found.note else ""
    return f"{model} {state} {found.since}{note}; its successor is {found.successor}"


def fault(model: str) -> str | None:
    """Return the problem of a model's id, which is part of the URL; None for a valid id."""
    if _is_id(model):
        return None
    rule = f"a model's id has letters, digits, dots and hyphens, as {DEFAULT_MODEL} has"
    return f"got {shown(model)}; {rule}"


def bare(model: str) -> str:
    """Return the model's id without the `models/` that Google's own requests carry."""
    return model.removeprefix("models/")
