"""A Gemini image API on loopback, to test a schedule, a retry policy or a client on: no key, no cent.

    async with Simulator(SimulatorConfig(tier="free")) as simulator:
        ...  # send to simulator.base_url

It shares no code with the client of this package: a common module would let one mistake agree with itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gemini_batch.simulator.command import serve
    from gemini_batch.simulator.config import SimulatorConfig
    from gemini_batch.simulator.server import Simulator

__all__ = ["Simulator", "SimulatorConfig", "serve"]

_HOMES = {"Simulator": "server", "SimulatorConfig": "config", "serve": "command"}


def __getattr__(name: str) -> Any:
    """Import aiohttp and Pillow only once they are needed."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
