"""Print the lowest allowed version of each dependency, as pip takes them: `aiohttp==3.13.4`.

With those of the extras that the tests need.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
needed = [each for name in ("bucket", "postgres", "vertex") for each in extras[name]]
for dependency in (*project["dependencies"], *needed):
    name, version = re.fullmatch(r"([\w-]+(?:\[[\w,-]+\])?)>=([\w.]+).*", dependency).groups()
    print(f"{name}=={version}")
