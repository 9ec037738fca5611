"""`status`: what an output folder says of itself."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output import rows
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


@pytest.mark.parametrize("name", ["manifest", "exit_code", "run_again_at", "ended_at"])
@pytest.mark.parametrize("value", ["[" * 400 + "]" * 400, '{"a":' * 300 + "1" + "}" * 300, "[]"])
def test_a_summary_nested_deeply_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    """What no run writes is not shown, and never a bug."""
    write_rows(tmp_path, row("cat"))
    (tmp_path / "summary.json").write_text(f'{{"left": 1, "calls": 2, "{name}": {value}}}')
    for flags in ([], ["--json"]):
        assert main(["status", str(tmp_path), *flags]) == 0
    assert '"last_run":null' in capsys.readouterr().out


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
@pytest.mark.parametrize("command", ["status", "verify", "gallery"])
def test_a_disk_that_fails_while_a_file_is_read_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    number: int,
) -> None:
    """An open file, which has no name in its error, ends with 8 and a sentence."""
    write_rows(tmp_path, row("cat"))

    def failing(_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(rows, "lines_of", failing)
    assert main([command, str(tmp_path)]) == 8
    assert os.strerror(number) in capsys.readouterr().err
