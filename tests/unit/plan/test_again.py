from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.config import Settings
from gemini_batch.plan.again import Again
from gemini_batch.records import Limits, Status
from tests.builders import make_row

ABSENT = object()
SETTINGS = Settings(tier="free", limits=Limits(), endpoint="x", base_url=None, model="m")


@pytest.mark.parametrize("finish_reason", ["IMAGE_SAFETY", ABSENT, None, 7, ["STOP"]])
@pytest.mark.parametrize("block_reason", ["SAFETY", ABSENT, None, 7, {"a": 1}, ""])
def test_a_row_without_a_reason_in_text_has_none(
    tmp_path: Path, block_reason: object, finish_reason: object
) -> None:
    """Calls are wanted again by the reasons that a row has; an edited one without any is no bug."""
    row: dict[str, Any] = orjson.loads(
        orjson.dumps(make_row("a", status=Status.BLOCKED, images=[]))
    )
    for name, value in (("block_reason", block_reason), ("finish_reason", finish_reason)):
        row[name] = value
        if value is ABSENT:
            del row[name]
    (tmp_path / "results.jsonl").write_bytes(orjson.dumps(row) + b"\n")

    def is_wanted(*reasons: str) -> bool:
        return Again(tmp_path, replace(SETTINGS, retry_reasons=frozenset(reasons))).has("a")

    assert is_wanted("SAFETY") == (block_reason == "SAFETY")
    assert is_wanted("IMAGE_SAFETY") == (
        finish_reason == "IMAGE_SAFETY" and block_reason != "SAFETY"
    )
    assert not is_wanted("STOP", "OTHER")
