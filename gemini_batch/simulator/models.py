"""Models of the simulator, from its own dated table `models.toml`."""

import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

DEFAULT_SIZE = "1K"
SCALE = {"512": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}


@dataclass(frozen=True, slots=True)
class Size:
    """One image size: output tokens, list price in USD, and median latency in seconds."""

    output_tokens: int
    usd: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the API.

    Attributes:
        id: Its name in the URL.
        mime_type: Type of its images.
        pixels: Width and height at 1K, by aspect ratio.
        sizes: Data of each `imageSize`.
        input_image_tokens: Prompt tokens of one reference image.
        refuses: Settings and tools that a request must not have, in snake_case.
        thinking: Mean tokens of thinking, by the levels that may be asked for; an answer has half
            of it to one and a half times of it.
        default_thinking: The level of a request that names none.
        thinking_tokens: The mean of a model without levels.
        candidates_have_thoughts: Whether its usage counts thoughts among the candidates.
        inputs: Types that it takes besides images.
        tiers: Service tiers that it has besides `standard`.
        batch_tokens: Input tokens of a project's open batches on the first paid tier.
        ignores_size: Whether every `imageSize` is accepted and none changes the image.
    """

    id: str
    mime_type: str
    pixels: dict[str, tuple[int, int]]
    sizes: dict[str, Size]
    input_image_tokens: int
    refuses: tuple[str, ...] = ()
    thinking: dict[str, int] = field(default_factory=dict)
    default_thinking: str = ""
    thinking_tokens: int = 0
    candidates_have_thoughts: bool = False
    inputs: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    batch_tokens: int = 0
    ignores_size: bool = False

    def mean_thinking(self, level: str | None) -> int:
        """Return the mean tokens of thinking at a level, or at its own."""
        return self.thinking.get(level or self.default_thinking, self.thinking_tokens)

    def size(self, image_size: str) -> Size:
        """Return the data of `image_size`, or of 1K if the model ignores the size."""
        return self.sizes[DEFAULT_SIZE if self.ignores_size else image_size]

    def dimensions(self, aspect_ratio: str, image_size: str) -> tuple[int, int]:
        """Return the documented width and height in pixels."""
        width, height = self.pixels[aspect_ratio]
        scale = 1.0 if self.ignores_size else SCALE[image_size]
        return round(width * scale), round(height * scale)


@cache
def load_models() -> dict[str, Model]:
    """Return the models by id."""
    data = tomllib.loads(files(__package__).joinpath("models.toml").read_text(encoding="utf-8"))
    pixels = {
        name: {ratio: (int(width), int(height)) for ratio, (width, height) in table.items()}
        for name, table in data["pixels"].items()
    }
    models = {}
    for name, row in data["models"].items():
        sizes = {size: Size(**values) for size, values in row.pop("sizes").items()}
        models[name] = Model(id=name, pixels=pixels[row.pop("pixels")], sizes=sizes, **row)
    return models
