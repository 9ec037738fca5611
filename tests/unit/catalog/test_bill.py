"""The plan's estimate against the bill of a simulator that draws thinking around its documented mean."""

import json
import random

import pytest

from gemini_batch.catalog import models
from gemini_batch.catalog.prices import cost_usd, estimate
from gemini_batch.catalog.thinking import ThinkingTokens
from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, Reply
from gemini_batch.simulator.answers import AnswerContext, usage
from gemini_batch.simulator.checks import ImageRequest, check
from gemini_batch.simulator.config import SimulatorConfig
from gemini_batch.simulator.models import load_models
from gemini_batch.simulator.pictures import EncodedImage

pytestmark = pytest.mark.slow

CASES = [
    (model.id, size, level)
    for model in models.known().values()
    if model.id in load_models()
    for size in model.output_tokens
    for level in (None, *model.thinking)
]
PROMPT = "A cute robot mascot on a hill at sunset"
CONFIG = SimulatorConfig()


def bills(
    model: str, size: str, level: str | None, number: int, seed: int
) -> tuple[list[float], list[dict[str, object]]]:
    """Return what the simulator's answers cost, and their rows as far as they teach something."""
    asked: dict[str, object] = {"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": size}}
    if level:
        asked["thinkingConfig"] = {"thinkingLevel": level}
    body = {"contents": [{"parts": [{"text": PROMPT}]}], "generationConfig": asked}
    request = check(json.dumps(body).encode(), load_models()[model])
    assert isinstance(request, ImageRequest)
    chance, costs, rows = random.Random(seed), list[float](), list[dict[str, object]]()
    for _ in range(number):
        context = AnswerContext(request, EncodedImage(b"", ""), chance, CONFIG)
        answer = {
            "candidates": [{"finishReason": "STOP"}],
            "usageMetadata": usage(context, images=1),
        }
        reply = parse_answer(Answer(200, json.dumps(answer).encode()))
        assert isinstance(reply, Reply)
        assert reply.usage is not None
        cost = cost_usd(model, reply.usage, 1, size)
        assert cost is not None
        costs.append(cost)
        fields = {name: getattr(reply.usage, name) for name in reply.usage.__slots__}
        rows.append({"model": model, "usage": fields, "images": [{}], "thinking": level})
    return costs, rows


def estimated(model: str, size: str, level: str | None, thinking: ThinkingTokens) -> float:
    """Return the estimate of one call."""
    found = estimate(
        model,
        size,
        input_tokens=-(-len(PROMPT) // 4),
        thinking_tokens=thinking.mean(model, level),
    )
    assert found.cost_usd is not None
    return found.cost_usd


@pytest.mark.parametrize(("model", "size", "level"), CASES)
def test_estimate_is_near_the_bill(model: str, size: str, level: str | None) -> None:
    """It is within 10 % of the bill before any answer, and within 2 % after twenty."""
    for seed in range(3):
        costs, rows = bills(model, size, level, 220, seed)
        thinking = ThinkingTokens()
        first, bill = estimated(model, size, level, thinking), sum(costs[:20]) / 20
        assert first == pytest.approx(bill, rel=0.10)
        thinking.learn(rows[:20])
        learned, bill = estimated(model, size, level, thinking), sum(costs[20:]) / 200
        assert learned == pytest.approx(bill, rel=0.02)
