"""A simulated Gemini image API on loopback: test clients and retry policies without a key or cost.

    async with Simulator(SimulatorConfig(tier="free")) as simulator:
        ...  # send to simulator.base_url

It shares no code with this package's client: with a common module, both sides could share a bug
and no test would find it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.simulator.command import serve
    from gemini_batch.simulator.config import SimulatorConfig
    from gemini_batch.simulator.server import Simulator

__all__ = ["Simulator", "SimulatorConfig", "serve"]

_MODULES = {"Simulator": "server", "SimulatorConfig": "config", "serve": "command"}


def __getattr__(name: str) -> Any:
    """Import aiohttp and Pillow only when they are needed."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
