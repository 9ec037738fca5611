"""Memory of a plan with chains: arrays, and no object for each job."""

import gc
import tracemalloc
from pathlib import Path

import orjson
import pytest

from gemini_batch.plan.build import build_plan
from tests.virtual.desk import CONFIG

pytestmark = pytest.mark.slow


def retained_bytes(folder: Path, jobs: int) -> int:
    """Return what a plan of jobs in chains of ten keeps, beside the manifest's own index."""
    path = folder / f"{jobs}.jsonl"
    lines = (
        {"id": f"j{n}", "prompt": "x"} | ({"images": [f"job:j{n - 1}"]} if n % 10 else {})
        for n in range(jobs)
    )
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    gc.collect()
    tracemalloc.start()
    try:
        with build_plan(path, folder / "out", CONFIG) as planned:
            gc.collect()
            assert planned.depth == 10
            return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_child_takes_as_much_memory_as_a_few_numbers(tmp_path: Path) -> None:
    """Chains of ten, as long as the manifest: a job takes some hundred bytes, however many there are."""
    retained_bytes(tmp_path, 10)  # what is imported and cached once
    few, many = (retained_bytes(tmp_path, jobs) for jobs in (200, 1_000))
    assert (many - few) / 800 < 250
