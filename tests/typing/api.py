"""The public API as a type checker sees it; nothing of this runs."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import assert_type

from gemini_batch import (
    Job,
    Result,
    ResultRow,
    Results,
    RunConfig,
    Status,
    Summary,
    read_results,
    run,
    stream,
)


async def as_they_come() -> AsyncIterator[Job]:
    """Yield jobs."""
    yield Job(
        prompt="A robot", images=["in/a.png"], aspect_ratio="16:9", image_size="2K", variants=3
    )


def as_row(row: ResultRow) -> str:
    """Take a row of any origin."""
    return row.id


async def usage() -> None:
    """Use each public name as the documentation does."""
    config = RunConfig(
        tier="free", rpm=10, out="robots.out", max_cost_usd=5, retry=frozenset({"blocked"})
    )
    assert_type(await run([Job(prompt="A robot")], config), Summary)
    assert_type(await run(Path("jobs.jsonl")), Summary)
    assert_type(await run(as_they_come(), config), Summary)
    assert_type(await run([{"prompt": "A robot", "seed": 3}], config, progress=True), Summary)
    assert_type(read_results("robots.out"), Results)
    rows = stream("jobs.jsonl", config)
    async for row in rows:
        assert_type(row, Result)
        assert_type(row.status, Status)
        assert_type([image.file for image in row.images], list[Path])
        assert_type(as_row(row), str)
    assert_type(rows.summary, Summary | None)
