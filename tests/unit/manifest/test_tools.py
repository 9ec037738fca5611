"""What other programs write into manifests, and files that are no manifest."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import ManifestError
from gemini_batch.manifest import Manifest, job_line
from gemini_batch.records import exact_json
from gemini_batch.records.job import Job
from tests.unit.manifest.lines import refusal, scanned, written

JSONL = 'a manifest is JSONL, one job per line, such as {"prompt": "A cute robot mascot"}'
AS_TABLE = "give it a name that ends in .csv, or add --format csv"
PANDAS = 'convert it, with pandas: DataFrame.to_json("jobs.jsonl", orient="records", lines=True)'

# --- values -----------------------------------------------------------------------------------


def test_null_is_as_good_as_left_out() -> None:
    """Every field may be null, as in a table with gaps, and in a part of a prompt too."""
    fields = {name: None for name in Job.model_fields if name not in ("id", "prompt")}
    part = {"text": "x", "image": None}
    full, bare, parts, *named = scanned(
        written(
            {"id": "a", "prompt": "x", **fields},
            {"id": "a2", "prompt": "x"},
            {"id": None, "prompt": None, "parts": [part]},
            {"id": None, "key": "by-key", "prompt": "x"},
            {"id": "by-id", "key": None, "prompt": "x"},
        )
    )
    assert full.model_dump(exclude={"id"}) == bare.model_dump(exclude={"id"})
    assert (full.images, full.variants) == ([], 1)
    assert parts.parts is not None
    assert [job.id for job in named] == ["by-key", "by-id"]


@pytest.mark.parametrize("number", ["42.0", "4.2e1", "420e-1", "42"])
def test_a_whole_number_in_any_spelling(number: str) -> None:
    """A number without a fraction is a whole number, as in JSON Schema."""
    line = f'{{"id": "a", "prompt": "x", "seed": {number}, "variants": {number}}}'
    (job,) = scanned(written(line))
    assert (job.seed, job.variants) == (42, 42)
    assert (type(job.seed), type(job.variants)) == (int, int)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"prompt": "x", "variants": 2.5}', "variants: got 2.5; must be a whole number"),
        ('{"prompt": "x", "seed": 1e12}', "seed: got 1000000000000; must be 2,147,483,647 or less"),
        ('{"prompt": "x", "variants": -0.0}', "variants: got 0; must be 1 or more"),
        ('{"prompt": "x", "seed": true}', "seed: got true; must be a whole number"),
        ('{"prompt": "x", "seed": "42.0"}', 'seed: got "42.0"; must be a whole number'),
        (
            '{"prompt": "x", "metadata": {"a": [1, NaN]}}',
            "metadata.a[1]: got NaN, which JSON does not have: leave it out",
        ),
        (
            '{"prompt": "x", "images": ["a.png", -Infinity]}',
            "images[1]: got -Infinity, which JSON does not have: leave it out",
        ),
        (
            '{"prompt": "x", "metadata": {"a": 1e400}}',
            "metadata.a: got 1e400, a number that is too large; allowed: up to 1.7e308",
        ),
        (
            '{"prompt": "x", "seed": ' + "9" * 100_000 + "}",
            f"seed: got {'9' * 20}… (100,000 characters), a number that is too large; allowed: up to 1.7e308",
        ),
        (
            '{"prompt": "x", "request": {"a": {"b": -' + "9" * 5_000 + "}}}",
            f"request.a.b: got -{'9' * 19}… (5,001 characters), a number that is too large; allowed: up to 1.7e308",
        ),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_number_that_is_none_of_these(line: str, problem: str) -> None:
    """It is refused with its place, and what is advised is accepted."""
    assert refusal(line) == [f"jobs.jsonl:1: {problem}"]


@pytest.mark.parametrize("levels", [241, 254, 900, 1023, 5_000])
@pytest.mark.parametrize("field", ["request", "metadata", "prompt", "images"])
def test_nesting_of_any_depth_is_a_problem_of_its_line(levels: int, field: str) -> None:
    """More levels than can be written are refused in a sentence, wherever they are."""
    deep = "[" * levels + "]" * levels
    value = f'{{"a": {deep}}}' if field in ("request", "metadata") else deep
    problems = refusal(f'{{"prompt": "x", "{field}": {value}}}')
    assert all(problem.startswith("jobs.jsonl:1: ") for problem in problems)


def test_numbers_of_metadata_and_request_are_kept() -> None:
    """What a double would change is kept, also when the line is read again; ids do not change."""
    line = '{"id": "a", "prompt": "x", "temperature": 0.69999999999999996, "metadata": {"n": 123456789012345678901234}}'
    raw = '{"request": {"contents": {"parts": {"text": "x"}}, "labels": {"n": 123456789012345678901234}}}'
    path = written(line, raw)
    with Manifest(path) as manifest:
        jobs = dict(manifest.scan())
        assert {index: manifest.read(index) for index in jobs} == jobs
    assert isinstance(jobs[0], Job)
    assert isinstance(jobs[1], Job)
    number = exact_json.Number("123456789012345678901234")
    assert (jobs[0].metadata, jobs[0].temperature) == ({"n": number}, 0.7)
    assert jobs[1].request == {"contents": {"parts": {"text": "x"}}, "labels": {"n": number}}
    assert jobs[1].id == "image-5f4646f2d1"


# --- names ------------------------------------------------------------------------------------

REPEATED = {
    '{"prompt": "x", "prompt": "y"}': "prompt",
    '{"prompt" :"x", "prompt":"y"}': "prompt",
    '{"id": "a", "prompt": "x", "pr\\u006fmpt": "y"}': "prompt",
    '{"prompt": "x", "metadata": {"a": {"b": 1, "c": 2, "b": 3}}}': "metadata.a.b",
    '{"prompt": "x", "metadata": {"a" : 1, "a": 1}}': "metadata.a",
    '{"prompt": "x", "metadata": {"a"\t: 1, "a": 1}}': "metadata.a",
    '{"prompt": "x", "metadata": {"": 1, "": 2}}': "metadata.",
    '{"parts": [{"text": "x"}, {"image": "a", "image": "b"}]}': "parts[1].image",
    '{"request": {"contents": [{"parts": [{"text": "x", "text": "y"}]}]}}': "request.contents[0].parts[0].text",
}


@pytest.mark.parametrize("line", REPEATED)
def test_a_repeated_name_is_refused(line: str) -> None:
    """JSON parsers take the last one in silence; here it is a problem with its path."""
    assert refusal(line) == [f"jobs.jsonl:1: {REPEATED[line]}: is there twice: leave one out"]


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "a \\"b\\": c, \\"b\\": d"}',
        '{"prompt" : "a : b", "metadata" : {"a" : {"a" : 1}, "b" : {"a" : 1}}}',
        '{"prompt": "\\":\\":", "metadata": {"\\"": 1, "a": [{"a": 1}, {"a": 2}]}}',
    ],
)
def test_what_only_looks_repeated_is_accepted(line: str) -> None:
    """Colons and quotes in texts, and equal names of different objects, are no repetition."""
    assert scanned(written(line))[0].prompt == json.loads(line)["prompt"]


NAMES = st.sampled_from(["a", "b", '"', '":', "a b", "\u00e9", ""])
PLACES = st.sampled_from(["", " ", "\t", "  "])


@st.composite
def objects(draw: st.DrawFn, depth: int = 0) -> str:
    """Return the text of an object whose names may be repeated, with blanks in places."""
    values = ['"x"', "1", '"\\": 1"', '"a : b"', '["a", {"a": 1}]']
    pairs = []
    for _ in range(draw(st.integers(0, 3))):
        value = (
            draw(objects(depth + 1))
            if depth < 2 and draw(st.booleans())
            else draw(st.sampled_from(values))
        )
        pairs.append(f"{json.dumps(draw(NAMES))}{draw(PLACES)}:{draw(PLACES)}{value}")
    return f"{{{','.join(pairs)}}}"  # fmt: skip


@given(objects(), PLACES)
def test_exactly_the_repeated_names_are_found(metadata: str, blank: str) -> None:
    """The quick test misses none, and refuses no line without one."""
    pairs: list[bool] = []

    def count(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(len(dict(found)) < len(found))
        return dict(found)

    text = f'{{"prompt"{blank}: "x", "metadata":{metadata}}}'.encode()
    json.loads(text, object_pairs_hook=count)
    try:
        job_line.checked_job_of(text)
    except job_line.LineError:
        assert any(pairs)
    else:
        assert not any(pairs)


# --- files ------------------------------------------------------------------------------------


def workbook() -> bytes:
    """Return the beginning of what Excel writes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return file.getvalue()


def archive() -> bytes:
    """Return a ZIP file with a manifest."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr("jobs.jsonl", '{"prompt": "x"}\n')
    return file.getvalue()


LINE = '{"prompt": "x"}\n'
TEXT = f"is plain text, without a JSON object in its first 5 lines; {JSONL}"
FILES: dict[str, tuple[bytes, str]] = {
    "gzip": (gzip.compress(LINE.encode()), "is compressed with gzip; unpack it first (gunzip)"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "is compressed with zstd; unpack it first (unzstd)"),
    "ZIP": (archive(), "is a ZIP archive; unpack it first (unzip)"),
    "Excel": (workbook(), f"is an Excel workbook; {PANDAS}; {JSONL}"),
    "Parquet": (b"PAR1\x15\x04", f"is a Parquet file; {PANDAS}; {JSONL}"),
    "CSV": (b"id,prompt\na,A robot\n", f"is CSV: {AS_TABLE}"),
    "CSV of Excel": ('\ufeff"Prompt";"Aspect Ratio"\r\n"x";"1:1"\r\n'.encode(), f"is CSV, with semicolons: {AS_TABLE}"),
    "CSV of one column": (b"prompt\nA robot\n", f"is CSV: {AS_TABLE}"),
    "TSV": (b"name\tprompt\na\tA robot\n", f"is TSV: {AS_TABLE}"),
    "an array": ((json.dumps([{"prompt": "x"}] * 2, indent=1)).encode(), f"is one JSON array; write its objects one per line (jq -c '.[]'): {JSONL}"),
    "UTF-16": (LINE.encode("utf-16"), "is UTF-16; save it as UTF-8"),
    "UTF-16, big endian": (b"\xfe\xff" + LINE.encode("utf-16-be"), "is UTF-16; save it as UTF-8"),
    "UTF-16 without a BOM": ((LINE * 3).encode("utf-16-be"), "has NUL bytes, as UTF-16 has; save it as UTF-8"),
    "UTF-32": (LINE.encode("utf-32"), "is UTF-32; save it as UTF-8"),
    "prompts": (b"A robot\nA cat\n\nA fox, at night\nA lake\nA tree\n" * 9, TEXT),
    "YAML": (b"- prompt: A robot\n  seed: 1\n" * 9, TEXT),
    "Markdown": (b"# Prompts\n\n1. A robot\n2. A cat\n3. A fox\n4. A lake\n5. A tree\n", TEXT),
    "HTML": (b"\n<!doctype html><html>"[1:], "is HTML or XML; convert it: " + JSONL),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_kind_is_named(name: str) -> None:
    """It is one problem, of the whole file, with what to do; whatever its name is."""
    content, message = FILES[name]
    path = Path("jobs.jsonl")
    path.write_bytes(content)
    with pytest.raises(ManifestError) as refused:
        scanned(path)
    assert refused.value.lines() == [f"jobs.jsonl: {message}"]


@pytest.mark.parametrize(
    "content", [LINE, "\n \n" + LINE, "\ufeff" + LINE, '{"prompt": "a, b; id,prompt"}\n']
)
@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.csv", "jobs"])
def test_jsonl_of_any_name_is_read(name: str, content: str) -> None:
    """The name of a file decides nothing if its first line is an object."""
    path = Path(name)
    path.write_text(content)
    assert len(scanned(path)) == 1


def test_a_number_that_fits_is_python_s_own() -> None:
    """Numbers of 64 bits, and short decimals, are what orjson reads."""
    (job,) = scanned(written('{"prompt": "x", "metadata": {"n": 18446744073709551615, "f": 1.5}}'))
    assert orjson.dumps(job.metadata) == b'{"n":18446744073709551615,"f":1.5}'
