"""Rules of single models: settings and tools that one refuses and another takes."""

from collections.abc import Iterator
from typing import Any

from gemini_batch.simulator import bodies, schema
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.models import Model

_CONFIG = "GenerateContentRequest.generation_config"
_UNSPECIFIED = "THINKING_LEVEL_UNSPECIFIED"


def refusal(request: dict[str, Any], model: Model) -> ErrorBody | None:
    """Return the 400 for what the model does not have; its texts are derived."""
    config = request.get("generation_config", {})
    for name in _features(request, config):
        if name in model.refuses:
            return bodies.bad_argument(f"{name} is not supported by models/{model.id}.")
    level = config.get("thinking_config", {}).get("thinking_level", _UNSPECIFIED)
    if level != _UNSPECIFIED and model.thinking and level.lower() not in model.thinking:
        allowed = ", ".join(each.upper() for each in model.thinking)
        return bodies.bad_argument(
            f"{_CONFIG}.thinking_config.thinking_level: thinking level {level} is not supported "
            f"by this model, allowed: {allowed}"
        )
    return None


def tools(request: dict[str, Any]) -> set[str]:
    """Return the names of a request's tools, in snake_case."""
    listed = request.get("tools")
    each = listed if isinstance(listed, list) else [listed]
    return {schema.snake_case(name) for tool in each if isinstance(tool, dict) for name in tool}


def _features(request: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    yield from config
    yield from config.get("thinking_config", {})
    yield from sorted(tools(request))
    if request.get("cached_content"):
        yield "cached_content"
