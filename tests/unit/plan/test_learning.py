from pathlib import Path

import pytest

from gemini_batch.config.run_config import RunConfig
from gemini_batch.output.paths import RESULTS
from gemini_batch.plan.build import build_plan
from gemini_batch.records import ImageFile, Usage
from tests.builders import line_of, make_row

NANO = "gemini-nano-banana-2.1"
IMAGE = ImageFile("images/a.jpg", "image/jpeg", 1, 1, 1, "")


@pytest.mark.parametrize(("level", "tokens"), [(None, 3000), ("high", 900)])
def test_a_plan_learns_from_the_rows_of_its_folder(
    tmp_path: Path, level: str | None, tokens: int
) -> None:
    """Answers of the model's own level change its estimate, those of another level do not."""
    path, out = tmp_path / "jobs.jsonl", tmp_path / "jobs.out"
    path.write_text('{"id": "new", "prompt": "A robot"}\n')
    out.mkdir()
    usage = Usage(10, 1120, 3000, 4130, {"candidates": {"IMAGE": 1120}})
    rows = [
        make_row(f"r{number}", model=NANO, usage=usage, images=[IMAGE], thinking=level)
        for number in range(20)
    ]
    (out / RESULTS).write_bytes(b"".join(map(line_of, rows)))
    config = RunConfig(model=NANO).settings(needs_key=False)
    with build_plan(path, out, config) as planned:
        assert planned.plan.total.output_tokens == 1120 + tokens
