"""Plans that begin with the snapshot of an earlier one."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from gemini_batch.config import Settings
from gemini_batch.config.run_config import RunConfig
from gemini_batch.errors import GeminiBatchError
from gemini_batch.manifest import Manifest
from gemini_batch.output.paths import BATCHES, IMAGES, PRIVATE, RESULTS, SNAPSHOT
from gemini_batch.plan import Planner, snapshot
from gemini_batch.plan.build import build_plan, price_table
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.records import Call, Status, Usage
from tests.builders import line_of, make_row

pytestmark = pytest.mark.slow

MODEL, OTHER = "gemini-3-pro-image-preview", "gemini-2.5-flash-image"
LINES = [
    {"id": f"robot-{number}", "prompt": f"Robot {number}", "metadata": {"n": number}}
    for number in range(20)
] + [
    {"prompt": "The same robot"},
    {"prompt": "The same robot"},
    {"prompt": "Two", "model": OTHER},
    {"prompt": "Three", "model": "gemini-3-pro-image", "image_size": "2K"},
]
Change = Callable[[Path, Settings], Settings]


@pytest.fixture(autouse=True)
def _of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MIN_CALLS", 1)


def settings(**options: Any) -> Settings:
    """Return settings of these options."""
    return RunConfig(api_key="x", **options).settings()


def calls_of(planned: BuiltPlan) -> dict[str, list[object]]:
    """Return the calls to be made of each lane."""
    return {lane: list(calls) for lane, calls in planned.calls().items()}


def seen(folder: Path, config: Settings) -> tuple[object, bool]:
    """Return all that a run does with a plan, or its error, and whether it begins with a snapshot."""
    try:
        with build_plan(folder / "jobs.jsonl", folder / "out", config) as planned:
            plan, history = planned.plan, planned.history
            return (
                calls_of(planned),
                plan.totals,
                plan.total,
                plan.lanes,
                plan.models,
                (len(plan), plan.todo, plan.to_send),
                planned.duration,
                planned.successors,
                planned.notices(),
                [*planned.warnings()],
                {name: number for name, number in history.statuses.items() if number},
                (history.by_alias, history.without_row),
                [planned._planner.thinking.mean(model) for model in (MODEL, OTHER)],
            ), plan.done_before > 0
    except GeminiBatchError as error:
        return (type(error), str(error)), False


def planned_anew(folder: Path, config: Settings) -> object:
    """Return what is seen of a plan without a snapshot."""
    file = folder / "out" / PRIVATE / SNAPSHOT
    kept = file.read_bytes() if file.exists() else None
    file.unlink(missing_ok=True)
    found, is_restored = seen(folder, config)
    assert not is_restored
    if kept is not None:
        file.write_bytes(kept)
    return found


def row_for(call: Call, status: Status = Status.SUCCEEDED, **changes: Any) -> bytes:
    """Return the row of a call."""
    changes = {"request_sha256": call.request_sha256, "model": call.request.model, **changes}
    return line_of(make_row(call.id, status, endpoint=settings().endpoint, **changes))


def all_calls(folder: Path) -> list[Call]:
    """Return all calls of the manifest, in its order."""
    with build_plan(folder / "jobs.jsonl", folder / "none", settings()) as planned:
        found = [each for calls in calls_of(planned).values() for each in calls]
    return sorted((each for each in found if isinstance(each, Call)), key=lambda call: call.line)


def write_jobs(folder: Path, lines: list[dict[str, Any]]) -> None:
    """Write a manifest of these lines."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "jobs.jsonl").write_text(text, encoding="utf-8")


def started(folder: Path, statuses: list[Status | None] | None = None) -> Path:
    """Write a manifest whose calls have these statuses, the snapshot of its plan included."""
    write_jobs(folder, LINES)
    (folder / "out" / PRIVATE).mkdir(parents=True)
    done = [Status.SUCCEEDED] * 15
    ends = statuses or [*done, Status.BLOCKED, Status.FAILED]
    usage = Usage(10, 1120, 900, 2030, {"candidates": {"IMAGE": 1120}})
    rows = [
        row_for(call, status, usage=usage)
        for call, status in zip(all_calls(folder), ends, strict=False)
        if status
    ]
    (folder / "out" / RESULTS).write_bytes(b"".join(rows))
    with build_plan(folder / "jobs.jsonl", folder / "out", settings()) as planned:
        planned.save()
    return folder


def append(folder: Path, *rows: bytes) -> None:
    """Append rows, as a run does."""
    with (folder / "out" / RESULTS).open("ab") as file:
        file.write(b"".join(rows))


def test_a_snapshot_makes_the_same_plan(tmp_path: Path) -> None:
    """What a run does after a snapshot is what it does after reading all lines and rows."""
    found, is_restored = seen(started(tmp_path), settings())

    assert is_restored
    assert found == planned_anew(tmp_path, settings())


def test_rows_since_the_snapshot_count(tmp_path: Path) -> None:
    """Calls that a run has ended since are done; one that failed is sent again, as before."""
    calls = all_calls(started(tmp_path))
    append(tmp_path, row_for(calls[16]), row_for(calls[17]), row_for(calls[20], Status.FAILED))

    found, is_restored = seen(tmp_path, settings())
    assert is_restored
    assert found == planned_anew(tmp_path, settings())
    with build_plan(tmp_path / "jobs.jsonl", tmp_path / "out", settings()) as planned:
        planned.save()
    append(tmp_path, row_for(calls[18]))
    assert seen(tmp_path, settings()) == (planned_anew(tmp_path, settings()), True)


@pytest.mark.parametrize("name", [each.name for each in fields(Settings)])
def test_each_setting_decides_about_calls_or_not(name: str) -> None:
    """A setting that no list names means no snapshot, unless it has its default."""
    known = {*snapshot._COVERED, *snapshot._OF_SENDING}
    other: Any = {name: ("something else",)}
    changed = replace(settings(), **other)

    key = snapshot.covers(settings(), {})
    assert key is not None
    if name in snapshot._OF_SENDING:
        assert snapshot.covers(changed, {}) == key
    elif name in known:
        assert snapshot.covers(changed, {}) not in {None, key}
    else:
        assert snapshot.covers(changed, {}) is None


def _settings_of(**options: Any) -> Change:
    return lambda _folder, _config: settings(**options)


def _edit(old: str, new: str) -> Change:
    def change(folder: Path, config: Settings) -> Settings:
        path = folder / "jobs.jsonl"
        status, text = path.stat(), path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        return config

    return change


def _rows(edit: Callable[[bytes], bytes], *, in_place: bool = True) -> Change:
    def change(folder: Path, config: Settings) -> Settings:
        path = folder / "out" / RESULTS
        data = edit(path.read_bytes())
        if not in_place:
            (folder / "new").write_bytes(data)
            (folder / "new").replace(path)
        path.write_bytes(data)
        return config

    return change


def _file(*parts: str, data: bytes = b"") -> Change:
    def change(folder: Path, config: Settings) -> Settings:
        path = folder.joinpath("out", *parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return config

    return change


def _batch(folder: Path, config: Settings) -> Settings:
    (folder / "out" / PRIVATE / BATCHES / "a").mkdir(parents=True)
    return config


def _row_of(place: int, status: Status, **changes: Any) -> Change:
    def change(folder: Path, config: Settings) -> Settings:
        append(folder, row_for(all_calls(folder)[place], status, **changes))
        return config

    return change


def _cut(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:10])


CHANGES: dict[str, Change] = {
    "model": _settings_of(model=OTHER),
    "the same model, named": _settings_of(model=MODEL),
    "service tier": _settings_of(service_tier="flex"),
    "server": _settings_of(base_url="https://example.com"),
    "only": _settings_of(only=("robot-19",)),
    "limit": _settings_of(limit=2),
    "redo": _settings_of(redo=("robot-3",)),
    "redo discarded": _settings_of(redo=("discarded",)),
    "retry": _settings_of(retry=frozenset({"blocked"})),
    "retry missing": _settings_of(retry=frozenset({"missing"})),
    "retry a reason": _settings_of(retry=frozenset({"blocked:EMPTY"})),
    "adopt": _settings_of(adopt_images=True),
    "pixels": _settings_of(max_input_pixels=100),
    "batches": _settings_of(route="auto"),
    "budget": _settings_of(max_cost_usd=1.0),
    "a line of the same size": _edit("Robot 3", "Robot X"),
    "the last line": _edit("Three", "Threx"),
    "another id": _edit('"robot-7"', '"robot-X"'),
    "a blank line": _edit('\n{"id": "robot-9"', '\n\n{"id": "robot-9"'),
    "a new line": _edit('{"prompt": "Two"', '{"prompt": "New"}\n{"prompt": "Two"'),
    "a line that is wrong": _edit('"Robot 5"', "12345678.0"),
    "rows gone": _rows(_cut),
    "rows of another file": _rows(bytes, in_place=False),
    "a row edited": _rows(lambda data: data.replace(b'"succeeded"', b'"rejected" ', 1)),
    "a row damaged": _rows(lambda data: data.replace(b'{"id"', b'{"ix"', 1)),
    "no rows": _rows(lambda _data: b""),
    "an open batch": _batch,
    "an image without a row": _file(IMAGES, "robot-18.png"),
    "marks": _file("marks.jsonl", data=b"{}\n"),
    "a call done again": _row_of(3, Status.FAILED),
    "a call that failed": _row_of(18, Status.FAILED),
    "a call that is done": _row_of(18, Status.SUCCEEDED),
    "a late answer": _row_of(18, Status.LATE),
    "an edited call": _row_of(18, Status.SUCCEEDED, request_sha256="0" * 64),
    "an answer of the successor": _row_of(18, Status.SUCCEEDED, model="gemini-3-pro-image"),
    "a call of a batch": _row_of(18, Status.FAILED, route="batch"),
    "an image to fetch": _row_of(18, Status.FAILED, remote_images=["https://example.com/a"]),
}


@pytest.mark.parametrize(
    "names", [(name,) for name in CHANGES] + [("server", "a call that failed")]
)
def test_a_change_of_anything_gives_the_plan_of_all_lines(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Whatever was changed since, the plan is the one that is made without the snapshot."""
    started(tmp_path)
    config = settings()
    for name in names:
        config = CHANGES[name](tmp_path, config)

    assert seen(tmp_path, config)[0] == planned_anew(tmp_path, config)


def test_rows_of_an_older_file_are_not_taken_for_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of rows that was written over has other rows, also with its size, its end and its time as they were."""
    monkeypatch.setattr(snapshot, "_TAIL_BYTES", 10)
    started(tmp_path)
    path, config = tmp_path / "out" / RESULTS, settings()
    before = path.stat()
    _rows(lambda data: data.replace(b'"succeeded"', b'"failed"   ', 1))(tmp_path, config)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns

    assert seen(tmp_path, config)[0] == planned_anew(tmp_path, config)


@examples(max_examples=30, deadline=None)
@given(
    statuses=st.lists(
        st.sampled_from([*[Status.SUCCEEDED] * 12, *Status, None]), min_size=24, max_size=24
    ),
    changes=st.lists(st.sampled_from(sorted(CHANGES)), max_size=3),
)
def test_any_rows_and_changes_give_the_plan_of_all_lines(
    tmp_path_factory: pytest.TempPathFactory, statuses: list[Status | None], changes: list[str]
) -> None:
    """Whatever calls are done, and whatever is changed then, no call is sent more or less."""
    folder = tmp_path_factory.mktemp("plans")
    try:
        started(folder, statuses)
        config = settings()
        assert seen(folder, config)[0] == planned_anew(folder, config)
        for name in changes:
            try:
                config = CHANGES[name](folder, config)
            except (AssertionError, OSError, GeminiBatchError):
                continue  # another one has made it impossible
        assert seen(folder, config)[0] == planned_anew(folder, config)
    finally:
        shutil.rmtree(folder)


def test_a_line_that_is_read_to_be_sent_must_be_the_one_that_was_planned(tmp_path: Path) -> None:
    """A manifest that is edited during a run stops it, also after a snapshot."""
    started(tmp_path)
    with build_plan(tmp_path / "jobs.jsonl", tmp_path / "out", settings()) as planned:
        assert planned.plan.done_before
        _edit("Robot 19", "Robot XX")(tmp_path, settings())
        found = [each for calls in calls_of(planned).values() for each in calls]
        assert any("was edited during the run" in str(each) for each in found)


def test_a_damaged_snapshot_is_none(tmp_path: Path) -> None:
    """No damage ends a run with an error, or changes what it sends: 3,000 damaged ones."""
    file = started(tmp_path) / "out" / PRIVATE / SNAPSHOT
    whole, draw = file.read_bytes(), random.Random(20261130)
    config = settings()
    key = snapshot.covers(config, price_table(config)) or ""
    with Manifest(tmp_path / "jobs.jsonl") as manifest:
        planner = Planner(MODEL, pytest.fail)
        assert snapshot.restore(tmp_path / "out", key, manifest, planner, config)
        manifest.clear()
        for _ in range(3_000):
            data, place = bytearray(whole), draw.randrange(len(whole))
            match draw.randrange(4):
                case 0:
                    data[place] ^= 1 << draw.randrange(8)
                case 1:
                    del data[place : place + draw.randint(1, 300)]
                case 2:
                    data[place:place] = draw.randbytes(draw.randint(1, 300))
                case 3:
                    data = bytearray(draw.randbytes(place))
            file.write_bytes(data)
            assert snapshot.restore(tmp_path / "out", key, manifest, planner, config) is None
    assert seen(tmp_path, config) == (planned_anew(tmp_path, config), False)


def test_a_snapshot_knows_nothing_of_batches(tmp_path: Path) -> None:
    """A folder with notes of batches is planned as a whole."""
    _batch(started(tmp_path), settings())
    assert not seen(tmp_path, settings())[1]


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_snapshot_of_another_kind_is_none(tmp_path: Path, kind: str) -> None:
    """A folder, a pipe or a link in its place is no snapshot, and nothing hangs."""
    file = started(tmp_path) / "out" / PRIVATE / SNAPSHOT
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("/dev/zero")
    found, is_restored = seen(tmp_path, settings())
    assert not is_restored
    with build_plan(tmp_path / "jobs.jsonl", tmp_path / "out", settings()) as planned:
        planned.save()
    assert seen(tmp_path, settings())[0] == found


def test_a_small_manifest_has_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that is planned at once needs none."""
    monkeypatch.setattr(snapshot, "MIN_CALLS", 10_000)
    assert not (started(tmp_path) / "out" / PRIVATE / SNAPSHOT).exists()
