from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.hashmap import fingerprint
from gemini_batch.output.history import wanted_again
from gemini_batch.records import Status
from tests.builders import make_row

ABSENT = object()


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
        return wanted_again(tmp_path, reasons, missing=False) == {fingerprint("a")}

    assert is_wanted("SAFETY") == (block_reason == "SAFETY")
    assert is_wanted("IMAGE_SAFETY") == (
        finish_reason == "IMAGE_SAFETY" and block_reason != "SAFETY"
    )
    assert not is_wanted("STOP", "OTHER")
