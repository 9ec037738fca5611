"""Service tiers, and the names of lanes and quotas that follow from them. Pure.

The calls of one model and one service tier are a lane: `gemini-3-pro-image`, `gemini-3-pro-image
(flex)`. Flex shares the quota of standard, and priority has one of its own.
"""

import re
from typing import Literal, TypeAlias, cast, get_args

ServiceTier: TypeAlias = Literal["standard", "flex", "priority"]
SERVICE_TIERS: tuple[ServiceTier, ...] = get_args(ServiceTier)
UNSPECIFIED = "unspecified"
"""The API's name for no tier in a request: standard is served."""

_is_lane = re.compile(r"(?P<model>.*) \((?P<tier>flex|priority)\)").fullmatch


def lane_name(model: str, tier: ServiceTier) -> str:
    """Return the name of the lane of a model's calls in a service tier."""
    return model if tier == "standard" else f"{model} ({tier})"


def model_and_tier(lane: str) -> tuple[str, ServiceTier]:
    """Return the model and the service tier of a lane."""
    named = _is_lane(lane)
    return (named["model"], cast(ServiceTier, named["tier"])) if named else (lane, "standard")


def quota_name(lane: str) -> str:
    """Return the name of the quota that a lane uses."""
    return lane.removesuffix(" (flex)")
