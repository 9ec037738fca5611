"""The public API as a type checker sees it; nothing of this runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from gemini_batch import Job, ResultRow, RunConfig, Status, Summary, run, stream


async def as_they_come() -> AsyncIterator[Job]:
    """Yield jobs."""
    yield Job(
        prompt="A robot", images=["in/a.png"], aspect_ratio="16:9", image_size="2K", variants=3
    )


async def usage() -> None:
    """Use each public name as the documentation does."""
    config = RunConfig(
        tier="free", rpm=10, out="robots.out", max_cost_usd=5, retry=frozenset({"blocked"})
    )
    assert_type(await run([Job(prompt="A robot")], config), Summary)
    assert_type(await run(Path("jobs.jsonl")), Summary)
    assert_type(await run(as_they_come(), config), Summary)
    rows = stream("jobs.jsonl", config)
    async for row in rows:
        assert_type(row, ResultRow)
        assert_type(row.status, Status)
    assert_type(rows.summary, Summary | None)
