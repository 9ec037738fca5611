"""A run of a part of the manifest: it narrows what is sent, never sends again, and loses nothing."""

import pytest

from gemini_batch.errors import ConfigError, ExitCode
from gemini_batch.events import RunStarted
from gemini_batch.output import OutputFolder
from gemini_batch.output.inflight import InFlightLog, unacknowledged
from gemini_batch.output.rows import newest_rows
from tests.builders import picture, png, says, tree
from tests.virtual.desk import Desk
from tests.virtual.test_kept_answers import keep_an_answer

pytestmark = pytest.mark.usefixtures("no_real_syncs")


def test_the_first_calls_are_sent_and_the_rest_is_named(desk: Desk) -> None:
    """`--limit` counts calls that are not done, in the order of the manifest; each run ends with 0."""
    desk.write_jobs(
        {"id": "a", "prompt": "x"},
        {"id": "b", "prompt": "x", "variants": 3, "system": "y"},
        {"id": "c", "prompt": "x"},
    )
    summary = desk.run(limit=2)
    assert sorted(desk.sent()) == ["a", "b"]
    assert (summary.exit_code, summary.calls, summary.left) == (ExitCode.DONE, 5, 3)
    (started,) = (event for event in desk.events if isinstance(event, RunStarted))
    assert (started.todo, started.done, started.later) == (2, 0, 3)
    assert desk.run(limit=2).left == 1
    assert sorted(desk.sent()) == ["b.2", "b.3"]
    assert desk.run(limit=2).left == 0
    assert desk.sent() == ["c"]
    assert desk.run(limit=2).this_run.sent == 0


def test_calls_of_some_ids_are_sent(desk: Desk) -> None:
    """`--only` takes ids and globs; what is done is not sent again; both flags narrow."""
    names = ["icons/1", "icons/2", "icons/3", "lake", "lake[1]"]
    desk.write_jobs(*({"id": name, "prompt": "x"} for name in names))
    desk.run(only=("lake", "*[12]"), limit=2)
    assert sorted(desk.sent()) == ["icons/1", "icons/2"]
    summary = desk.run(only=("lake", "icons/?"))
    assert sorted(desk.sent()) == ["icons/3", "lake"]
    assert (summary.exit_code, summary.left) == (ExitCode.DONE, 1)
    assert desk.run(only=("lake", "icons/1")).this_run.sent == 0
    desk.run(only=("lake[1]",))
    assert desk.sent() == ["lake[1]"]


@pytest.mark.parametrize("only", ["robot", "icons/*", "A", "a.2"])
def test_an_id_that_names_no_call_is_an_error(desk: Desk, only: str) -> None:
    """A slip of the pen is no part that is done."""
    with pytest.raises(ConfigError, match=r"^--only: .*jobs\.jsonl has no call "):
        desk.run(only=("a", only))


def test_an_id_that_is_a_glob_of_others_is_an_error(desk: Desk) -> None:
    """What is meant is asked, and the message says how to write it."""
    desk.write_jobs({"id": "a1", "prompt": "x"}, {"id": "a[1]", "prompt": "x"})
    with pytest.raises(ConfigError, match=r'as a glob names others: write "a\[\[\]1\]"$'):
        desk.run(only=("a[1]",))
    desk.run(only=("a[[]1]",))
    assert desk.sent() == ["a[1]"]


def test_what_failed_in_another_part_is_its_own(desk: Desk) -> None:
    """The exit code is of this part: a call that failed or was rejected before is not in it."""
    desk.write(a="x", b="x")
    assert desk.run({"a": [says(400)], "b": [says(500)] * 2}).exit_code == ExitCode.INCOMPLETE
    desk.write(a="x", b="x", d="x")
    summary = desk.run(only=("d",))
    assert (summary.exit_code, summary.needs_person, summary.left) == (ExitCode.DONE, False, 1)
    assert desk.run({"b": [says(500)] * 2}, limit=1).exit_code == ExitCode.INCOMPLETE


def test_a_budget_counts_what_the_part_costs(desk: Desk) -> None:
    """The plan, and a stop, are of the calls of the part."""
    summary = desk.run({"a": [picture()]}, only=("a",), max_cost_usd=0.2)
    assert (summary.exit_code, summary.left) == (ExitCode.DONE, 2)
    (started,) = (event for event in desk.events if isinstance(event, RunStarted))
    assert started.cost_usd == pytest.approx(0.138, abs=0.01)
    assert started.max_cost_usd == 0.2


@pytest.mark.parametrize("only", ["b", "c"])
def test_an_answer_of_another_part_is_kept(desk: Desk, only: str) -> None:
    """What a killed run had received for a call outside of the part is paid for: the run of its part takes it."""
    keep_an_answer(desk)
    desk.run(only=("b",))
    desk.run(only=(only,))  # the second time with nothing to do
    assert "images/a.png" not in tree(desk.out)
    desk.run()
    assert "a" not in desk.sent()
    assert tree(desk.out)["images/a.png"] == png("kept")


def test_what_was_in_flight_in_another_part_is_not_forgotten(desk: Desk) -> None:
    """A call that a killed run had sent, and may have been billed, is still left alone by a later run that is to."""
    desk.run()
    (asked,) = (row["request_sha256"] for row in newest_rows(desk.out) if row["id"] == "a")
    (desk.out / "results.jsonl").unlink()
    private = OutputFolder(desk.out).private
    log = InFlightLog(private, 0)
    log.sent("a", asked, 0)
    log.close()
    desk.run(only=("b",), forgets_rows=True)
    assert unacknowledged(private).calls == {"a": asked}
    summary = desk.run(skip_uncertain=True, forgets_rows=True)
    assert desk.sent() == ["c"]
    assert summary.by_status == {"succeeded": 2, "uncertain": 1}
