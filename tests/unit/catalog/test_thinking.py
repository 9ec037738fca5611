from typing import Any

import pytest

from gemini_batch.catalog import models
from gemini_batch.catalog.thinking import ThinkingTokens

NANO, PRO = "gemini-nano-banana-2.1", "gemini-3-pro-image"


def row(tokens: int, model: str = NANO, **changes: Any) -> dict[str, Any]:
    """Return a row with one image and so many tokens of thinking."""
    usage = {
        "prompt_tokens": 10,
        "candidates_tokens": 1120,
        "thoughts_tokens": tokens,
        "total_tokens": 1130 + tokens,
        "by_modality": {"candidates": {"IMAGE": 1120}},
    }
    return {"model": model, "usage": usage, "images": [{}], "thinking": None, **changes}


@pytest.mark.parametrize(
    ("model", "level", "tokens"),
    [
        (NANO, None, 900),
        (NANO, "medium", 900),
        (NANO, "minimal", 200),
        (NANO, "high", 1800),
        (PRO, None, 300),
        ("gemini-3.1-flash-image", None, 150),
        ("gemini-3.1-flash-image", "high", 900),
        ("gemini-2.5-flash-image", None, 0),
        ("gemini-9-image", "high", 0),
    ],
)
def test_without_answers_the_table_counts(model: str, level: str | None, tokens: int) -> None:
    """Each model and level has its allowance; what is unknown has none."""
    assert ThinkingTokens().mean(model, level) == models.thinking_tokens(model, level) == tokens


def test_answers_replace_the_table() -> None:
    """After twenty answers around 500 tokens the mean is near 500; other levels and models keep theirs."""
    thinking = ThinkingTokens()
    thinking.learn([row(450), row(550)] * 10)
    assert thinking.mean(NANO) == pytest.approx(500, rel=0.05)
    assert (thinking.mean(NANO, "high"), thinking.mean(PRO)) == (1800, 300)


def test_levels_are_learned_apart() -> None:
    """An answer counts for the level that it was asked for."""
    thinking = ThinkingTokens()
    thinking.learn([row(3000, thinking="high")] * 40)
    assert thinking.mean(NANO, "high") == pytest.approx(3000, rel=0.02)
    assert thinking.mean(NANO) == 900


USELESS: dict[str, dict[str, Any]] = {
    "no usage": {"usage": None},
    "no image": {"images": []},
    "a copy": {"reused_from": {"out": "x", "id": "a"}},
    "no tokens of the image": {"usage": {"prompt_tokens": 1, "total_tokens": 9, "by_modality": {}}},
    "another version's usage": {"usage": {"tokens": 9}},
    "modalities of another kind": {"usage": {"total_tokens": 9, "by_modality": []}},
    "absurd": row(10**9),
    "a model that is no text": {"model": ["x"]},
    "a level that is no text": {"thinking": {"level": "high"}},
}


def test_a_row_without_a_model_is_left_out() -> None:
    """An edited row that lacks a field is no bug."""
    thinking = ThinkingTokens()
    edited = row(1)
    del edited["model"], edited["thinking"]
    thinking.learn([edited] * 50)
    assert thinking.mean(NANO) == 900


@pytest.mark.parametrize("name", USELESS)
def test_a_row_that_says_nothing_is_left_out(name: str) -> None:
    """Rows without an image of their own, or without credible counts, teach nothing."""
    thinking = ThinkingTokens()
    thinking.learn([row(1) | USELESS[name]] * 50)
    assert thinking.mean(NANO) == 900
