from typing import get_args

import pytest

from gemini_batch.catalog import models
from gemini_batch.records import AspectRatio, ImageSize, Thinking


def test_table_has_only_what_a_manifest_can_ask_for() -> None:
    """The sizes and aspect ratios of the table are those that a job may have."""
    known = models.known().values()
    assert {size for model in known for size in model.image_sizes} == set(get_args(ImageSize))
    assert {ratio for model in known for ratio in model.aspect_ratios} == set(get_args(AspectRatio))


@pytest.mark.parametrize("model", models.known())
def test_entry_is_whole(model: str) -> None:
    """Each model has token counts for 1K, and only for its sizes, and a known successor, if any."""
    entry = models.known()[model]
    assert entry.id == model
    assert models.DEFAULT_IMAGE_SIZE in entry.output_tokens
    assert set(entry.output_tokens) <= set(entry.image_sizes)
    assert all(
        isinstance(tokens, int)
        for tokens in (*entry.output_tokens.values(), entry.input_image_tokens)
    )
    assert entry.successor is None or entry.successor in models.known()
    assert models.fault(model) is None


def test_default_is_the_model_of_the_brief_and_has_a_successor() -> None:
    """The default model is known, and a 404 can name its successor."""
    assert models.DEFAULT_MODEL == "gemini-3-pro-image-preview"
    assert models.find(models.DEFAULT_MODEL) is not None
    assert models.successor(models.DEFAULT_MODEL) == "gemini-3-pro-image"


def test_default_level_of_thinking_is_one_that_the_model_offers() -> None:
    """A model has levels, one of which is its default, or one fixed mean."""
    for model in models.known().values():
        if model.thinking:
            assert model.default_thinking in model.thinking
            assert set(model.thinking) <= set(get_args(Thinking))
            assert model.thinking_tokens == 0
        else:
            assert model.default_thinking is None


SAME = [
    {"gemini-3-pro-image-preview", "nano-banana-pro-preview", "gemini-3-pro-image"},
    {"gemini-3.1-flash-image-preview", "gemini-3.1-flash-image", "gemini-nano-banana-2.1"},
    {"gemini-2.5-flash-image", "gemini-3.1-flash-lite-image"},
]


def test_each_model_is_the_same_as_its_successor() -> None:
    """The ids of one line of succession are one model; an unknown one is alone."""
    for ids in SAME:
        for model in ids:
            assert models.same(model) == ids
    assert models.same("gemini-9-image") == {"gemini-9-image"}
    assert set().union(*SAME) == set(models.known())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            "gemini-3-pro-image-preview",
            "was shut down on 2026-06-25 (it may still be answered); its successor is gemini-3-pro-image",
        ),
        (
            "gemini-3.1-flash-image-preview",
            "was shut down on 2026-06-25; its successor is gemini-3.1-flash-image",
        ),
        (
            "gemini-3.1-flash-image",
            "has been deprecated since 2026-10-06 (earliest shutdown 2026-10-29 ",
        ),
        ("gemini-2.5-flash-image", "has been deprecated since 2026-09-18 (shutdown 2027-03-15 by "),
    ],
)
def test_a_model_that_will_not_stay_is_named_with_its_successor(model: str, words: str) -> None:
    """The warning has state, date and successor."""
    assert (models.warning(model) or "").startswith(f"{model} {words}")


@pytest.mark.parametrize(
    "model",
    ["gemini-3-pro-image", "gemini-nano-banana-2.1", "gemini-3.1-flash-lite-image", "gemini-9"],
)
def test_a_stable_or_unknown_model_has_no_warning(model: str) -> None:
    """Nothing is said of a model that stays."""
    assert models.warning(model) is None


def test_new_model_is_not_known_and_not_refused() -> None:
    """A model that is not in the table is unknown, and allowed."""
    assert models.find("gemini-9-image") is None
    assert models.successor("gemini-9-image") is None
    assert models.fault("gemini-9-image") is None


@pytest.mark.parametrize(
    "model", ["", "a/b", "../x", "a?key=1", "a b", "-a", "a\n", "models/models/a"]
)
def test_id_that_would_change_the_url_is_refused(model: str) -> None:
    """A model's id is one plain part of the URL."""
    assert models.fault(models.bare(model)) is not None


def test_fault_says_what_is_allowed() -> None:
    """The message has the value found and an example."""
    assert models.fault("a/b") == (
        'got "a/b"; a model\'s id has letters, digits, dots and hyphens, as gemini-3-pro-image-preview has'
    )


def test_bare_drops_what_google_puts_before_a_model() -> None:
    """`models/x` and `x` are one model."""
    assert models.bare("models/x") == models.bare("x") == "x"
