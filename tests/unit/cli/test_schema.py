"""The JSON Schemas of `schema job|row` agree with the models."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types of its own
from pydantic import ValidationError

from gemini_batch.cli import main
from gemini_batch.cli.schema import EXAMPLES, job_schema, row_schema
from gemini_batch.records import ResultRow, ids
from gemini_batch.records.job import Job

JOBS = Path(__file__).parents[3] / "jobs"
JOB, ROW = Draft202012Validator(job_schema()), Draft202012Validator(row_schema())

# For each field: null, what is right, and what is wrong.
VALUES: dict[str, list[Any]] = {
    "id": [None, "robot", "icons/robot.png", "", 7, "a.png/robot", "../robot", "robot ", "robot\n", "x" * 151,
           "a\u202eb", "a\u200d", "\ufeff", "a\U000e0041", "\u2764\ufe0f", f"{'x' * 150}/{'x' * 49}", f"{'x' * 150}/{'x' * 50}"],
    "key": [None, "robot", ""],
    "prompt": [None, "A robot", "", ["A robot"]],
    "images": [[], ["a.png"], [""], "a.png", None, [7]],
    "parts": [None, [], [{"text": "x"}], [{"text": "x", "image": None}, {"image": "a.png"}], [{"text": "x", "image": "y"}],
              [{}], [{"text": ""}], [{"txt": "x"}], ["x"]],
    "request": [None, {}, {"contents": [{"parts": [{"text": "x"}]}]}, "x", []],
    "system": [None, "Draw.", "", 7],
    "aspect_ratio": [None, "16:9", "4:5x", 1],
    "image_size": [None, "2K", "2k", 512],
    "modalities": [None, ["IMAGE"], ["TEXT", "IMAGE"], [], ["AUDIO"], "IMAGE"],
    "seed": [None, 7, 7.0, 7.5, -(2**31), 2**31, "7", True],
    "temperature": [None, 0, 1.5, 2.5, -1, "1"],
    "thinking": [None, "minimal", "HIGH", "none", 900],
    "model": [None, "gemini-3-pro-image", "", 3],
    "variants": [1, 1000, 3.0, 2.5, 0, 1001, None, "2", True],
    "metadata": [None, {}, {"customer": 17}, "x", []],
    "aspectRatio": ["1:1"],
}  # fmt: skip


def is_job(line: dict[str, Any]) -> bool:
    """Return whether a run would accept this line."""
    try:
        job_id = Job.model_validate(line).id
    except ValidationError:
        return False
    return job_id is None or ids.fault(ids.normal(job_id)) is None


def lines_of(name: str) -> list[dict[str, Any]]:
    """Return the lines of a sample manifest."""
    return [json.loads(line) for line in (JOBS / name).read_text("utf-8").splitlines()]


SAMPLES = [line for path in sorted(JOBS.glob("*.jsonl")) for line in lines_of(path.name)]


@pytest.mark.parametrize("schema", [job_schema(), row_schema()], ids=["job", "row"])
def test_a_schema_is_one(schema: dict[str, Any]) -> None:
    """It is valid by its own dialect, has a name, and says of every field what it is."""
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].startswith("urn:gemini_batch:schema:")
    assert schema["title"]
    assert schema["description"]
    assert [
        name for name, field in schema["properties"].items() if not field.get("description")
    ] == []


def test_every_field_is_there() -> None:
    """No field of a model is missing in its schema, and none is made up but for the second name of `id`."""
    assert {*job_schema()["properties"]} == {*Job.model_fields, "key"}
    assert {*row_schema()["properties"]} == {*ResultRow.__dataclass_fields__}


@pytest.mark.parametrize(
    "line",
    [*SAMPLES, *EXAMPLES],
    ids=lambda line: line.get("id") or line.get("key") or "without id",
)
def test_every_sample_is_valid(line: dict[str, Any]) -> None:
    """Each line of the sample manifests, and each example of the schema itself, is a job by the schema and by the model."""
    assert [error.message for error in JOB.iter_errors(line)] == []
    assert is_job(line)


BASES: tuple[dict[str, Any], ...] = (
    {},
    {"prompt": "x"},
    {"parts": [{"text": "x"}]},
    {"request": {}},
    {"prompt": "x", "id": "a"},
)


@pytest.mark.parametrize("name", VALUES)
def test_the_schema_takes_a_value_if_the_model_does(name: str) -> None:
    """For types, sizes, choices and names, an editor marks exactly what a run would refuse."""
    lines = [base | {name: value} for base in BASES for value in VALUES[name]]
    assert [line for line in lines if JOB.is_valid(line) != is_job(line)] == []
    assert {is_job(line) for line in lines} == ({False} if name == "aspectRatio" else {True, False})


@given(
    st.sampled_from(BASES),
    st.lists(
        st.sampled_from([(name, value) for name, values in VALUES.items() for value in values]),
        max_size=3,
    ),
)
def test_the_schema_takes_what_the_model_takes(
    base: dict[str, Any], fields: list[tuple[str, Any]]
) -> None:
    """The same holds for any combination of fields."""
    line = base | dict(fields)
    assert JOB.is_valid(line) == is_job(line)


NAMES = ["a", "B.2", "a.png", "B.JPeG", ".gif", "png", " a", "a ", "a.", ".", "..", "", "a\n"]
LONG = ["x" * 49, "x" * 150, "x" * 151]
# Where a letter may take several bytes, no id is so long that they count: a schema can't count them.
SEGMENTS = st.lists(st.sampled_from(NAMES + LONG)) | st.lists(
    st.sampled_from(NAMES) | st.text(max_size=4), max_size=4
)


@given(SEGMENTS.map("/".join).map(ids.normal))
def test_the_schema_takes_the_ids_that_a_run_takes(job_id: str) -> None:
    """The same holds for characters, parts and lengths of ids, and for folder names."""
    line = {"prompt": "x", "id": job_id}
    assert JOB.is_valid(line) == is_job(line)


@given(
    st.lists(
        st.text(st.sampled_from("aaaaaaaaaé"), min_size=60, max_size=66), min_size=2, max_size=3
    ).map("/".join)
)
def test_the_schema_refuses_no_long_id_that_a_run_takes(job_id: str) -> None:
    """Its limits are in characters, those of a run in bytes of UTF-8: the run may be stricter."""
    line = {"prompt": "x", "id": job_id}
    assert JOB.is_valid(line) or not is_job(line)


@pytest.mark.parametrize(("of", "schema"), [("job", job_schema()), ("row", row_schema())])
def test_the_command_prints_it(
    capsys: pytest.CaptureFixture[str], of: str, schema: dict[str, Any]
) -> None:
    """`schema job` and `schema row` print the schema, and nothing else, to stdout."""
    assert main(["schema", of]) == 0
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == (schema, "")
