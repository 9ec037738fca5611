"""The Python API, on a real event loop: with the embedded simulator, or with a network that waits for the test."""

import asyncio
import logging
import pydoc
import re
import sys
from contextlib import aclosing
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson
import pytest
from PIL import Image

import gemini_batch
from gemini_batch import (
    ConfigError,
    Job,
    ManifestError,
    RunConfig,
    Status,
    StoppedError,
    read_results,
    run,
    stream,
)
from gemini_batch.errors import ExitCode, StorageError
from tests.loopback.python_api.network import (
    PATIENCE_S,
    Network,
    as_they_come,
    robots,
    simulated,
)

pytestmark = [pytest.mark.loopback, pytest.mark.slow]


# --- jobs in, summary out ---------------------------------------------------------------------------------------------


async def test_run_returns_what_it_came_to(tmp_path: Path) -> None:
    """Jobs become images and rows in the folder, and the summary says how it ended; the same again has nothing to do."""
    jobs = [
        Job(id="a", prompt="A robot", variants=2),
        Job(prompt="A cat", metadata={"customer": 17}),
    ]
    summary = await run(jobs, simulated(tmp_path / "out"))
    assert (summary.exit_code, summary.by_status, summary.manifest) == (
        ExitCode.DONE,
        {"succeeded": 3},
        "jobs",
    )
    assert len(list((tmp_path / "out/images").iterdir())) == 3

    again = await run(jobs, simulated(tmp_path / "out"))
    assert (again.exit_code, again.this_run.sent, again.calls) == (ExitCode.DONE, 0, 3)


async def test_jobs_from_python_are_those_of_a_manifest(tmp_path: Path) -> None:
    """A job without an id gets the same one from Python and from a file: a finished one is not paid for twice."""
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"prompt": "A cat", "aspect_ratio": "16:9", "metadata": {"a": 1}}\n')
    await run(path, simulated(tmp_path / "out"))
    summary = await run([Job(prompt="A cat", aspect_ratio="16:9")], simulated(tmp_path / "out"))
    assert summary.this_run.sent == 0


@pytest.mark.parametrize(
    "kind", [list, iter, as_they_come], ids=["list", "iterator", "async iterator"]
)
async def test_jobs_may_come_in_any_way(tmp_path: Path, kind: Any) -> None:
    """A list, an iterator and an async iterator of jobs are all taken."""
    summary = await run(kind(robots(3)), simulated(tmp_path / "out"))
    assert summary.by_status == {"succeeded": 3}


async def test_a_manifest_is_named_by_its_path(tmp_path: Path) -> None:
    """A path does what the command line does: results go beside the manifest."""
    path = tmp_path / "nightly.jsonl"
    path.write_text('{"prompt": "A robot"}\n')
    summary = await run(str(path), RunConfig(simulate=True, rpm=6000))
    assert (summary.manifest, summary.out) == (str(path), str(tmp_path / "nightly.simulated"))


async def test_images_are_looked_up_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job from Python names its reference images as the program would open them."""
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    monkeypatch.chdir(tmp_path)
    summary = await run(
        [Job(prompt="Add a rainbow", images=["in.png"])], simulated(tmp_path / "out")
    )
    assert summary.by_status == {"succeeded": 1}


# --- what is wrong ----------------------------------------------------------------------------------------------------


async def test_jobs_without_a_folder_are_refused() -> None:
    """Nothing says where jobs from Python belong: the message names the field."""
    with pytest.raises(ConfigError, match=r"RunConfig\(out=…\)"):
        await run(robots(1), RunConfig(simulate=True))


async def test_wrong_jobs_are_named_by_their_number(tmp_path: Path) -> None:
    """All problems are shown at once, before anything is sent, and leave no folder behind."""
    jobs = [Job(id="a", prompt="x"), Job(id="A", prompt="y"), Job(prompt="z", images=["gone.png"])]
    with pytest.raises(ManifestError) as caught:
        await run(jobs, simulated(tmp_path / "out"))
    assert [(problem.line, problem.field) for problem in caught.value.problems] == [
        (2, "id"),
        (3, "images[0]"),
    ]
    assert str(caught.value).startswith("jobs:2: id: ")
    assert not (tmp_path / "out").exists()


async def test_what_is_no_job_and_no_json_is_refused(tmp_path: Path) -> None:
    """Something else than a job, and metadata that no JSON can hold, are errors that say which job it was."""
    with pytest.raises(TypeError, match=r"jobs:2: got str; must be a gemini_batch\.Job, or a dict"):
        await run([*robots(1), "x"], simulated(tmp_path / "out"))  # type: ignore[list-item]
    for wrong in (Job(prompt="x", metadata={"it": object()}), {"prompt": object()}, {3: "x"}):
        with pytest.raises(ManifestError, match=r"^jobs:1: can't be written as JSON"):
            await run([wrong], simulated(tmp_path / "out"))  # type: ignore[list-item]


async def test_a_dict_is_a_line_of_a_manifest(tmp_path: Path) -> None:
    """Fields as a table has them: gaps are absent, numbers may be numpy's, and a finished job is done."""
    row = {
        "id": "a",
        "prompt": "A cat",
        "seed": np.int64(3),
        "temperature": np.float32(0.5),
        "variants": 2.0,
        "aspect_ratio": float("nan"),
        "image_size": None,
        "metadata": {"price": np.float64(1.5), "stock": float("nan")},
    }
    summary = await run([MappingProxyType(row)], simulated(tmp_path / "out"))
    assert summary.by_status == {"succeeded": 2}
    (first, _) = read_results(tmp_path / "out")
    assert first.metadata == {"price": 1.5, "stock": None}
    numbers: dict[str, Any] = {
        "seed": np.int64(3),
        "temperature": np.float32(0.5),
        "variants": np.int8(2),
    }
    job = Job(id="a", prompt="A cat", **numbers)
    assert (await run([job], simulated(tmp_path / "out"))).this_run.sent == 0


async def test_a_wrong_field_of_a_dict_is_named_as_in_a_manifest(tmp_path: Path) -> None:
    """A misspelt field is a problem of that job, with the field that was meant."""
    with pytest.raises(ManifestError, match=r'^jobs:2: promt: .*did you mean "prompt"'):
        await run([{"prompt": "A cat"}, {"promt": "A dog"}], simulated(tmp_path / "out"))


async def test_a_run_that_ends_early_is_a_value(tmp_path: Path) -> None:
    """A budget that is used up is no exception: the summary says so."""
    summary = await run(robots(3), simulated(tmp_path / "out", max_cost_usd=0.2))
    assert (summary.exit_code, summary.left) == (ExitCode.STOPPED, 2)
    assert summary.stops[0]["reason"] == "budget"


@pytest.fixture
def refusing(network: Network) -> None:
    """A network that answers one call with a picture, and refuses the key for the others."""
    network.answers.set()
    network.refuses_after = 1


@pytest.mark.usefixtures("refusing")
async def test_a_refused_key_is_an_error(tmp_path: Path) -> None:
    """What waiting does not fix is raised, with the summary of what was done."""
    with pytest.raises(StoppedError, match="the API refused the key") as raised:
        await run(robots(3), simulated(tmp_path / "out", concurrency=1))
    summary = raised.value.summary
    assert (summary.exit_code, summary.by_status) == (ExitCode.REFUSED, {"succeeded": 1})
    assert [stop["reason"] for stop in raised.value.stops] == ["auth"]


@pytest.mark.usefixtures("refusing")
async def test_a_refused_key_ends_a_stream_with_an_error(tmp_path: Path) -> None:
    """It comes after the rows, which are all there; the loop does not end as if all were well."""
    rows, seen = stream(robots(3), simulated(tmp_path / "out", concurrency=1)), []

    async def take_all() -> None:
        async for row in rows:
            seen.append(row.id)  # noqa: PERF401 # the error comes after it

    with pytest.raises(StoppedError):
        await take_all()
    assert (seen, rows.summary is not None) == (["robot-0"], True)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


# --- rows as they finish ----------------------------------------------------------------------------------------------


async def test_stream_yields_each_row_once_it_is_on_the_disk(
    tmp_path: Path, network: Network
) -> None:
    """Every call's row comes once, with its image in place, and the summary afterwards."""
    network.answers.set()
    rows = stream(robots(250), simulated(tmp_path / "out"))
    seen = []
    async for row in rows:
        assert (tmp_path / "out" / row.images[0].path).stat().st_size == row.images[0].size_bytes
        seen.append(row.id)
    assert sorted(seen) == sorted(job.id or "" for job in robots(250))
    assert rows.summary is not None
    assert rows.summary.by_status == {"succeeded": 250}


async def test_a_streamed_row_is_the_row_of_the_file(tmp_path: Path) -> None:
    """What is yielded has all that `results.jsonl` has, as values."""
    (row,) = [
        row
        async for row in stream(
            [Job(id="a", prompt="x", metadata={"a": [1]})], simulated(tmp_path / "out")
        )
    ]
    assert (row.status, row.metadata, row.attempts) == (Status.SUCCEEDED, {"a": [1]}, 1)
    written = (tmp_path / "out/results.jsonl").read_bytes()
    assert orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE) == written


async def test_numbers_of_metadata_come_back_as_they_were(tmp_path: Path) -> None:
    """A whole number of any size is the same in Python, in the file, and in Python again."""
    metadata = {"n": 123456789012345678901234, "small": -(2**70), "f": 0.1}
    rows = stream([Job(id="a", prompt="x", metadata=metadata)], simulated(tmp_path / "out"))
    assert [row.metadata async for row in rows] == [metadata]


async def test_rows_wait_for_a_slow_consumer(tmp_path: Path, network: Network) -> None:
    """The run does not wait for whoever takes the rows, and loses none of them."""
    network.expected = 300
    network.answers.set()
    rows = stream(robots(300), simulated(tmp_path / "out"))
    first = await anext(rows)
    await asyncio.wait_for(network.all_sent.wait(), PATIENCE_S)
    assert {first.id, *[row.id async for row in rows]} == {job.id for job in robots(300)}


async def test_leaving_the_stream_keeps_what_is_in_flight(
    tmp_path: Path, until_left: Network
) -> None:
    """A loop that is left early takes in no more calls, and what was sent is written before it is over."""
    config = simulated(tmp_path / "out", concurrency=2)
    async with aclosing(stream(robots(50), config)) as rows:
        await anext(rows)
    done = [
        orjson.loads(line)["id"]
        for line in (tmp_path / "out/results.jsonl").read_bytes().splitlines()
    ]
    assert sorted(done) == sorted(until_left.sent)
    assert len(done) <= 3


async def test_rows_that_are_dropped_end_their_run(tmp_path: Path, until_left: Network) -> None:
    """A bare `break` takes in no more calls either; what was sent is written, and then the folder is free."""
    config = simulated(tmp_path / "out", concurrency=2)
    async for _row in stream(robots(50), config):
        break
    (going,) = (task for task in asyncio.all_tasks() if task.get_name() == "rows")
    await asyncio.wait([going], timeout=PATIENCE_S)
    done = [
        orjson.loads(line)["id"]
        for line in (tmp_path / "out/results.jsonl").read_bytes().splitlines()
    ]
    assert sorted(done) == sorted(until_left.sent)
    assert len(done) <= 3
    assert (await run(robots(50), config)).by_status == {"succeeded": 50}


def test_a_loop_that_ends_with_a_run_under_way_says_nothing(
    tmp_path: Path, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """Dropped rows and an event loop that ends at once are no traceback; the next run names what may have been billed."""
    config = simulated(tmp_path / "out", concurrency=2)

    async def left_early() -> None:
        network.answers_left = 1
        network.expected = 3
        async for _row in stream(robots(5), config):
            break
        await asyncio.wait_for(network.all_sent.wait(), PATIENCE_S)

    network.answers.set()
    asyncio.run(left_early())
    network.answers_left = 5
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    summary = asyncio.run(run(robots(5), config))
    assert summary.by_status == {"succeeded": 5}
    assert summary.this_run.possibly_billed > 0


# --- what is seen, and read afterwards ---------------------------------------------------------------------------------


async def test_progress_is_shown_as_the_command_line_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asked for, a run says on stderr how it begins and ends; else it is silent."""
    await run(robots(2), simulated(tmp_path / "quiet"))
    assert capsys.readouterr().err == ""
    await run(robots(2), simulated(tmp_path / "out"), progress=True)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("jobs: 2 calls to send")
    assert "2 succeeded" in last


async def test_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With INFO the logger `gemini_batch` gets the start, each call that ended, and the end."""
    with caplog.at_level(logging.INFO, "gemini_batch"):
        await run(robots(2), simulated(tmp_path / "out"))
    start, *calls, end = [record.getMessage() for record in caplog.records]
    assert start.startswith("run: 2 calls to send")
    assert sorted(call.partition(" in ")[0] for call in calls) == [
        "robot-0: succeeded",
        "robot-1: succeeded",
    ]
    assert end.startswith("2 succeeded")


async def test_results_are_the_newest_rows(tmp_path: Path) -> None:
    """After an edit each call is there once, with the file of its image, which opens; a blocked one says why it has none."""
    config = simulated(tmp_path / "out")
    await run([Job(id="a", prompt="A cat"), Job(id="b", prompt="x [[fault:safety]]")], config)
    await run([Job(id="a", prompt="A dog"), Job(id="b", prompt="x [[fault:safety]]")], config)
    blocked, newest = sorted(read_results(tmp_path / "out"), key=lambda row: row.id, reverse=True)
    assert (newest.prompt, newest.images[0].file.is_absolute()) == ("A dog", True)
    with newest.open() as image:
        assert image.size == (newest.images[0].width, newest.images[0].height)
    with pytest.raises(ValueError, match="b has no image: blocked: SAFETY"):
        blocked.open()


async def test_results_make_a_data_frame(tmp_path: Path) -> None:
    """One line a call, with the file, what it cost, and the metadata as columns."""
    jobs = [
        Job(id="a", prompt="A cat", metadata={"sku": 7}),
        Job(id="b", prompt="x [[fault:safety]]", metadata={"colour": "red"}),
    ]
    await run(jobs, simulated(tmp_path / "out"))
    table = read_results(tmp_path / "out").to_dataframe().set_index("id")
    assert table.loc["a", "file"] == str(tmp_path / "out/images/a.jpg")
    assert (table.loc["a", "metadata.sku"], table.loc["b", "metadata.colour"]) == (7, "red")
    assert table.loc["a", "usage.total_tokens"] > 1000
    assert (table.loc["b", "status"], table["cost_usd"].sum() > 0.1) == ("blocked", True)
    assert read_results(tmp_path / "out").to_dataframe().shape[0] == 2


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    """A wrong folder is no empty table; nor is a damaged one."""
    with pytest.raises(ConfigError, match=r"has no results\.jsonl"):
        read_results(tmp_path)
    (tmp_path / "results.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(StorageError, match="not a row"):
        read_results(str(tmp_path))


# --- what is told, and what is imported -------------------------------------------------------------------------------


async def test_what_a_person_has_to_know_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Why a run ended early goes to the logger `gemini_batch`, as a warning; a run that goes well warns of nothing."""
    with caplog.at_level(logging.WARNING, "gemini_batch"):
        await run(robots(1), simulated(tmp_path / "well"))
        assert caplog.records == []
        await run(robots(2), simulated(tmp_path / "out", max_cost_usd=0.2))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--max-cost" in caplog.text


def test_importing_the_package_is_light() -> None:
    """`import gemini_batch` brings no library in; each public name does when it is asked for."""
    code = "import sys, gemini_batch; print(sorted({'aiohttp', 'pydantic', 'rich', 'orjson', 'PIL'} & set(sys.modules)))"
    assert _python(code) == "[]\n"


def test_every_public_name_is_there() -> None:
    """Each name that the page of `help` has can be imported, and any other is an AttributeError."""
    page = pydoc.plain(pydoc.render_doc(gemini_batch))
    listed = re.findall(r"^ {4,}([A-Z]\w+) {2,}", gemini_batch.__doc__ or "", re.MULTILINE)
    assert {*listed, *gemini_batch.__all__} == {*gemini_batch._MODULES, "__version__"}
    for name in (*listed, *gemini_batch.__all__):
        assert getattr(gemini_batch, name)
        assert name in dir(gemini_batch)
        assert name in page
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        gemini_batch.runn  # noqa: B018 # asking is the point


@pytest.mark.parametrize(
    ("options", "said"),
    [({"tier": "paid"}, '^tier: got "paid"'), ({}, "try it without one: simulate=True")],
)
async def test_errors_name_options_and_not_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    """An error names the options of Python, and not the flags of the command line."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        await run([{"prompt": "A robot"}], RunConfig(out=tmp_path / "out", **options))


def test_help_is_one_page() -> None:
    """`help(gemini_batch)` fits a few screens; each class has a page of its own."""
    assert len(pydoc.render_doc(gemini_batch).splitlines()) < 130


def _python(code: str) -> str:
    import subprocess

    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
