"""The history of an output folder: `runs.jsonl`, and what a run with nothing to send leaves alone."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.errors import StorageError
from gemini_batch.events import ManifestWarning
from gemini_batch.output.runs import read_runs
from tests.builders import picture, says
from tests.virtual.desk import Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def summary(desk: Desk) -> dict[str, Any]:
    """Return what `summary.json` says."""
    found: dict[str, Any] = orjson.loads((desk.out / "summary.json").read_bytes())
    return found


def test_each_run_is_a_line(desk: Desk) -> None:
    """The numbers of each night are there after the next one, also those of one that sent nothing."""
    desk.run({"b": [says(400)]})
    desk.run()
    first, second = read_runs(desk.out)
    assert (first["finished"], first["sent"], first["exit_code"]) == (3, 3, 4)
    assert first["cost_usd"] == pytest.approx(summary(desk)["this_run"]["cost_usd"])
    assert (second["finished"], second["sent"], second["cost_usd"]) == (0, 0, 0.0)
    assert first["manifest"] == second["manifest"] == str(desk.path)
    assert first["started_at"] <= first["ended_at"]


def test_a_run_with_nothing_to_send_keeps_the_numbers_of_the_last_one(desk: Desk) -> None:
    """A finished manifest that cron runs each night does not empty the summary of the night that made it."""
    desk.run({"a": [picture(30.0)]})
    before = summary(desk)
    desk.run()
    after = summary(desk)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"ended_at"}
    assert after["this_run"]["finished"] == 3


def test_a_run_with_nothing_to_send_renews_how_it_ended(desk: Desk) -> None:
    """What a monitor reads is of the last run: after a stopped one, that all is done."""
    desk.run({"a": [says(401)]}, concurrency=1)
    assert (summary(desk)["exit_code"], summary(desk)["needs_person"]) == (6, True)
    desk.run()
    desk.run()
    found = summary(desk)
    assert (found["exit_code"], found["needs_person"], found["stops"], found["left"]) == (
        0,
        False,
        [],
        0,
    )
    assert found["by_status"] == {"succeeded": 3}


def test_a_killed_run_is_a_line_without_an_end(desk: Desk) -> None:
    """The next run lists the one that was killed, once, with when it began."""
    desk.run({"b": [says(400)]})
    path = desk.out / "summary.json"
    killed = summary(desk) | {
        "exit_code": None,
        "ended_at": None,
        "started_at": "2026-11-21T08:00:00Z",
    }
    path.write_bytes(orjson.dumps(killed))
    desk.run()
    desk.run()
    ends = [(run["started_at"][:10], run["exit_code"]) for run in read_runs(desk.out)]
    assert ends == [("2026-11-22", 4), ("2026-11-21", None), ("2026-11-22", 4), ("2026-11-22", 4)]


def test_a_run_that_was_killed_after_its_last_row_is_not_continued(desk: Desk) -> None:
    """Where nothing is left of a killed run, the summary is that of the run that found so: `verify` counts rows by its time."""
    desk.run()
    killed = summary(desk) | {
        "exit_code": None,
        "ended_at": None,
        "started_at": "2026-11-21T08:00:00Z",
        "this_run": summary(desk)["this_run"] | {"finished": 0, "cost_usd": 0.0},
    }
    (desk.out / "summary.json").write_bytes(orjson.dumps(killed))
    desk.run()
    after = summary(desk)
    assert after["started_at"] > killed["started_at"]
    assert (after["this_run"]["finished"], after["by_status"]) == (0, {"succeeded": 3})
    assert after["ended_at"] is not None


@pytest.mark.parametrize("damage", [b"", b"\xff{", b"[]", b'{"this_run": 3}', b'{"ended_at": 7}'])
def test_a_damaged_summary_is_replaced(desk: Desk, damage: bytes) -> None:
    """A summary that can't be read is written anew by any run."""
    desk.run()
    (desk.out / "summary.json").write_bytes(damage)
    desk.run()
    assert summary(desk)["by_status"] == {"succeeded": 3}
    assert len([*read_runs(desk.out)]) == 2


def test_a_torn_line_is_left_out(desk: Desk) -> None:
    """A line that a power cut tore is no run, and does not swallow the next one."""
    desk.run()
    with (desk.out / "runs.jsonl").open("ab") as file:
        file.write(b'{"started_at": "2026-')
    desk.run()
    assert len([*read_runs(desk.out)]) == 2


def test_no_run_is_written_through_a_link(desk: Desk, tmp_path: Path) -> None:
    """A link in the place of the file is an error, and what it leads to stays as it was."""
    desk.run()
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    (desk.out / "runs.jsonl").unlink()
    (desk.out / "runs.jsonl").symlink_to(target)
    with pytest.raises(ExceptionGroup) as raised:
        desk.run()
    assert raised.group_contains(StorageError, match="runs.jsonl: is a symbolic link")
    assert target.read_bytes() == b"mine"


def warned(desk: Desk) -> list[str]:
    """Return the warnings of the last run about its manifest."""
    return [event.message for event in desk.events if isinstance(event, ManifestWarning)]


def test_a_second_manifest_that_replaces_pictures_is_warned_of(desk: Desk) -> None:
    """Where another manifest of the folder has the same ids, its name is said before it is sent."""
    desk.run()
    first = desk.path
    desk.path = first.with_name("more.jsonl")
    desk.write(d="of no other")
    desk.run()
    assert warned(desk) == []
    desk.write(a="other words")
    desk.run()
    (warning,) = warned(desk)
    assert "jobs.jsonl" in warning
    assert "--out" in warning
    first.unlink()
    desk.write(a="still other words")
    desk.run()
    assert warned(desk) == []


def test_an_edited_line_is_no_second_manifest(desk: Desk) -> None:
    """Nor is another way to write the path of the same one."""
    desk.run()
    desk.write(a="other words")
    desk.path = desk.path.parent / ".." / desk.path.parent.name / desk.path.name
    desk.run()
    assert desk.sent() == ["a"]
    assert warned(desk) == []
