"""Built-in data: image models, list prices and tiers."""

import pkgutil
import tomllib
from typing import Any


def built_in_table(name: str) -> dict[str, Any]:
    """Return the content of a TOML file of this package; `importlib.resources` imports much."""
    return tomllib.loads((pkgutil.get_data(__name__, name) or b"").decode())
