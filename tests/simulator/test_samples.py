import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

JOBS = Path(__file__).parents[2] / "jobs"
QUICKSTART: list[dict[str, Any]] = [
    json.loads(line) for line in (JOBS / "quickstart.jsonl").read_text("utf-8").splitlines()
]


def test_quickstart_covers_every_use_case() -> None:
    """Six jobs: text to image, editing, style transfer, composition, Google's batch line."""
    assert len(QUICKSTART) == 6
    assert sum("prompt" in job and "images" not in job for job in QUICKSTART) == 2
    assert sum("images" in job for job in QUICKSTART) == 2
    assert sum(job.get("modalities") == ["TEXT", "IMAGE"] for job in QUICKSTART) == 1
    assert sum(len([part for part in job.get("parts", []) if "image" in part]) > 1 for job in QUICKSTART) == 1
    assert sum("request" in job for job in QUICKSTART) == 1


@pytest.mark.parametrize("name", sorted({path for job in QUICKSTART for path in [*job.get("images", []), *[part["image"] for part in job.get("parts", []) if "image" in part]]}))  # fmt: skip
def test_input_images(name: str) -> None:
    """Each input image is there, real and small."""
    file = JOBS / name
    assert file.stat().st_size < 40_000
    with Image.open(file) as image:
        image.load()
        assert max(image.size) == 512
