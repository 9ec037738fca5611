"""`status`: what an output folder says of itself."""

from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from tests.unit.gallery.folder import row, write_rows


def test_what_was_superseded_was_paid_for_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest rows say what there is, and all rows what it took; what is of unknown cost never counts as nothing."""

    def status(*flags: str) -> str:
        assert main(["status", str(tmp_path), *flags]) == 0
        return capsys.readouterr().out

    write_rows(
        tmp_path,
        row("cat", cost_usd=0.1344),
        row("robot", cost_usd=0.25),
        row("dog", cost_usd=None),
    )
    assert status().splitlines() == [
        f"{tmp_path}: 3,900 tokens, $0.3844 at list price, and 1 of unknown cost",
        "       3  succeeded",
    ]

    write_rows(tmp_path, row("robot", cost_usd=0.5), row("dog", cost_usd=None))
    assert status().splitlines()[:2] == [
        f"{tmp_path}: 3,900 tokens, $0.6344 at list price, and 1 of unknown cost",
        "  including superseded answers: $0.8844 at list price, and 2 of unknown cost",
    ]
    found = orjson.loads(status("--json"))
    assert (found["cost_usd"], found["unpriced"]) == (0.6344, 1)
    assert found["all_rows"] == {"cost_usd": 0.8844, "unpriced": 2}
