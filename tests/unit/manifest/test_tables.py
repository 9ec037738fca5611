"""Tables as manifests: the jobs, ids and lines of CSV and TSV, in all that spreadsheets make of them."""

import csv
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.errors import ManifestError, StorageError
from gemini_batch.manifest import open_manifest, tables
from gemini_batch.records import exact_json
from gemini_batch.records.job import Job
from tests.unit.manifest.tables import as_csv, jobs_in, problems_in, read, table

FIELDS = "known: " + ", ".join(Job.model_fields)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- the same as JSONL --------------------------------------------------------------------------

# Of any characters but those that JSON or an id can't have, among them all that CSV quotes.
TEXTS = st.text(
    st.sampled_from("ab,;\t|\"'\\{}[]=#é€猫😀 \u2028\x0b\n\r"), min_size=1, max_size=12
).filter(str.strip)
JOBS = st.lists(
    st.fixed_dictionaries(
        {"prompt": TEXTS},
        optional={
            "id": st.from_regex(r"[a-z]{3,9}", fullmatch=True),
            "system": TEXTS,
            "aspect_ratio": st.sampled_from(["1:1", "9:16", "21:9"]),
            "image_size": st.sampled_from(["512", "1K"]),
            "seed": st.integers(-(2**31), 2**31 - 1),
            "temperature": st.sampled_from([0, 1, 0.5, 0.1, 1.25]),
            "variants": st.integers(1, 3),
            "images": st.lists(TEXTS, min_size=1, max_size=2),
            "modalities": st.just(["TEXT", "IMAGE"]),
            "metadata": st.dictionaries(TEXTS, st.integers() | TEXTS, min_size=1, max_size=2),
        },
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda job: job.get("id", repr(job)),
)
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
    }
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])


@given(JOBS, DIALECTS, ENCODINGS)
@example([{"prompt": ","}], {"delimiter": ";"}, "utf-8")
def test_a_table_is_the_same_manifest_as_jsonl(
    jobs: list[dict[str, Any]], dialect: dict[str, Any], encoding: str
) -> None:
    """Ids, texts and numbers are equal in each dialect and encoding: a move between the two pays nothing again."""
    Path("same.jsonl").write_text("\n".join(map(json.dumps, jobs)), "utf-8")
    try:
        expected = [job for _, job in read(Path("same.jsonl"))]
    except ManifestError:  # two ids that are one
        return
    if {"\\r", "\\n"} & {*re.findall(r"\\.", json.dumps(jobs))}:
        dialect["quoting"] = csv.QUOTE_ALL  # Python 3.11 quotes some line ends only then
    assert jobs_in(as_csv(jobs, **dialect).encode(encoding)) == expected


# --- dialects -----------------------------------------------------------------------------------

TWO = [
    Job(id="robot", prompt="A robot, blue", aspect_ratio="16:9"),
    Job(id="owl", prompt='An "owl"'),
]
ROWS = 'id,prompt,aspect_ratio\nrobot,"A robot, blue",16:9\nowl,"An ""owl""",\n'
TABS = 'id\tprompt\taspect_ratio\nrobot\tA robot, blue\t16:9\nowl\t"An ""owl"""\t\n'
SEMICOLONS = 'id;prompt;aspect_ratio\r\nrobot;A robot, blue;16:9\r\nowl;"An ""owl""";\r\n'
DRESSES: dict[str, str | bytes] = {
    "plain": ROWS,
    "no last line end": ROWS.rstrip("\n"),
    "Windows": ROWS.replace("\n", "\r\n"),
    "old Mac": ROWS.replace("\n", "\r"),
    "BOM": "\ufeff" + ROWS,
    "semicolons": SEMICOLONS,
    "Excel's sep": "sep=;\r\n" + SEMICOLONS,
    "Excel's sep, quoted, of tabs": '"sep=\t"\n' + TABS,
    "tabs": TABS,
    "bars": TABS.replace("\t", "|"),
    "Excel's Unicode text": TABS.encode("utf-16"),
    "UTF-16 without a BOM": ROWS.encode("utf-16-le"),
    "UTF-16, big endian": b"\xfe\xff" + ROWS.encode("utf-16-be"),
    "UTF-32": ROWS.encode("utf-32"),
    "quotes around all": '"id","prompt","aspect_ratio"\n"robot","A robot, blue","16:9"\n"owl","An ""owl""",""\n',
    "blanks after commas": 'id, prompt, aspect_ratio\nrobot, "A robot, blue", 16:9\nowl, "An ""owl""",\n',
    "blank and empty rows": ROWS.replace("\nowl", "\n\n,,\n \t,  ,\nowl") + ",,\n\n",
    "rows that end early": 'id,prompt,aspect_ratio\nrobot,"A robot, blue",16:9\nowl,"An ""owl"""\n',
    "empty columns at the end": ROWS.replace("\n", ",,\n"),
    "columns in another order": 'aspect_ratio,prompt,id\n16:9,"A robot, blue",robot\n,"An ""owl""",owl\n',
    "blanks around a shape": ROWS.replace("16:9", " 16:9 "),
    "key": ROWS.replace("id,", "key,"),
}  # fmt: skip


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("name", ["jobs.csv", "jobs.TSV"])
def test_a_table_is_read_in_any_dress(dress: str, name: str) -> None:
    """Delimiter, encoding and line ends are seen in the file; its suffix only says that it is a table."""
    assert jobs_in(DRESSES[dress], name) == TWO


def test_one_column_is_a_table() -> None:
    """Prompts alone are jobs without ids; with quotes or without, a comma is text."""
    content = 'prompt\nA robot\nA robot, blue\n"A robot; blue"\n'
    assert [job.prompt for job in jobs_in(content)] == ["A robot", "A robot, blue", "A robot; blue"]


def test_jsonl_with_the_suffix_of_a_table_is_jsonl() -> None:
    """The first line decides if it is an object."""
    assert jobs_in('\ufeff\n{"id": "robot", "prompt": "A robot"}\n') == [
        Job(id="robot", prompt="A robot")
    ]


# --- cells --------------------------------------------------------------------------------------

CELLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a whole number of pandas": ("seed", "42.0", {"seed": 42}),
    "a number with zeros before it": ("seed", "007", {"seed": 7}),
    "a negative number": ("seed", "-5", {"seed": -5}),
    "a decimal": ("temperature", "0.7", {"temperature": 0.7}),
    "an id of digits": ("id", "007", {"id": "007"}),
    "a size of digits": ("image_size", "512", {"image_size": "512"}),
    "a list": ("images", '["a.png", "b.png"]', {"images": ["a.png", "b.png"]}),
    "a list over two lines": ("images", '["a.png",\r\n "b\\n.png"]', {"images": ["a.png", "b\n.png"]}),
    "metadata": ("metadata", '{"a": [1, null]}', {"metadata": {"a": [1, None]}}),
    "a column of metadata": ("metadata.sku", "0012", {"metadata": {"sku": "0012"}}),
    "a deeper column": ("metadata.a.b c", "x", {"metadata": {"a": {"b c": "x"}}}),
    "a number that no double holds": ("metadata", '{"n": 123456789012345678901234}', {"metadata": {"n": exact_json.Number("123456789012345678901234")}}),
    "blanks in a text": ("system", "  two  ", {"system": "  two  "}),
    "lines in a text": ("system", "one\r\ntwo\n", {"system": "one\r\ntwo\n"}),
    "what looks like JSON in a text": ("system", '{"a": [1]', {"system": '{"a": [1]'}),
    "an empty cell": ("seed", "", {}),
    "a blank cell": ("seed", " ", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_what_its_field_wants(name: str) -> None:
    """Numbers and lists are what they are in JSONL, and a text stays as it is."""
    field, cell, expected = CELLS[name]
    (job,) = jobs_in(as_csv([{"prompt": "x", field: cell}]))
    assert {key: getattr(job, key) for key in expected} == expected
    absent = job.model_dump(exclude_defaults=True, exclude={"id", "prompt", *expected})
    assert absent == {}


def test_parts_and_requests_may_be_cells() -> None:
    """A row asks in any of the three ways."""
    parts = [{"text": "A"}, {"image": "a.png"}]
    request = {"contents": [{"parts": [{"text": "x"}]}]}
    by_parts, by_request = jobs_in(as_csv([{"parts": parts}, {"request": request}]))
    assert by_parts.parts is not None
    assert [part.model_dump(exclude_none=True) for part in by_parts.parts] == parts
    assert by_request.request == request


def test_a_comma_of_a_number_goes_with_semicolons() -> None:
    """The spreadsheets of Europe write 0,7, and so separate cells otherwise."""
    (job,) = jobs_in("prompt;temperature\nx;0,7\n")
    assert job.temperature == 0.7
    assert problems_in('prompt,temperature\nx,"0,7"\n') == [
        'jobs.csv:2: temperature: got "0,7"; must be a number'
    ]


# --- lines --------------------------------------------------------------------------------------


def test_a_job_has_the_line_of_its_row() -> None:
    """The first line of the record, as an editor numbers it: cells have lines, and rows may be blank."""
    content = 'id,prompt\na,"one\ntwo\r\nthree"\n\nb,x\n"c","x\n"\n,\nd,x'
    assert [(line, job.id) for line, job in read(table(content))] == [
        (2, "a"),
        (6, "b"),
        (7, "c"),
        (10, "d"),
    ]
    assert [line for line, _ in read(table("sep=,\nid,prompt\na,x\n"))] == [3]


# --- problems -----------------------------------------------------------------------------------

BAD: dict[str, tuple[str | bytes, list[str]]] = {
    "a name that is misspelt": ("promt,id\nx,a\n", ['1: promt: no such field; did you mean "prompt"?']),
    "a name in another spelling": ("Prompt,Aspect Ratio\nx,1:1\n", ['1: Prompt: no such field; did you mean "prompt"?', '1: Aspect Ratio: no such field; did you mean "aspect_ratio"?']),
    "a column of one's own": ("prompt,sku\nx,a\n", [f'1: sku: no such field; {FIELDS}; "metadata.sku" is kept with the result']),
    "no names at all": ("A robot\nAn owl\n", ['1: got "A robot"; the first row names the fields of jobs, such as id,prompt']),
    "a name twice": ("id,prompt,id\na,x,b\n", ["1: id: is there twice: leave one column out"]),
    "a name inside another one": ("prompt,metadata,metadata.a\nx,,b\n", ['1: metadata.a: is inside of "metadata": leave one column out']),
    "an index of pandas": (",id,prompt\n0,a,x\n1,b,y\n", ["1: column 1 has no name: name it, or leave it out (with pandas: to_csv(…, index=False))"]),
    "a comma without quotes": ("id,prompt\na,A robot, blue\n", ['2: has 3 cells, and the first row 2: put a cell with "," in it into quotes']),
    "a quote inside of quotes": ('id,prompt\na,"A "big" robot"\nb,x\nc,"A "small" one"\n', ['2: has text after a closing quote: write a quote in a cell twice, as ""', '4: has text after a closing quote: write a quote in a cell twice, as ""']),
    "a quote that is not closed": ('id,prompt\na,x\nb,"y\nc,z\n', ["3: has an opening quote that is never closed: close it, or leave it out"]),
    "a list without brackets": ("prompt,images\nx,a.png\n", ['2: images: got "a.png"; must be a list: write ["a.png"]']),
    "a list of Python": ("prompt,images\nx,['a.png']\n", ['2: images: got "\'a.png\']", which is Python and not JSON; write a list as ["a.png", "b.png"]']),
    "an object that is cut off": ('prompt,metadata\nx,"{""a"": 1"\n', ["2: metadata: got the cell's end, which is not valid JSON (Expecting ',' delimiter); write an object as {\"name\": \"value\"}"]),
    "a list where an object goes": ("prompt,metadata\nx,[]\n", ["2: metadata: got []; must be an object"]),
    "a number that is none": ("prompt,seed\nx,seven\n", ['2: seed: got "seven"; must be a whole number']),
    "a thousand with a dot": ("prompt,variants\nx,1.000\n", ['2: variants: got "1.000"; must be a whole number']),
    "a number that lost digits": ("prompt,seed\nx,1.23E+09\n", ['2: seed: got "1.23E+09"; must be a whole number']),
    "a number that is too large": ("prompt,seed\nx,99999999999999999999\n", ["2: seed: got 100000000000000000000; must be 2,147,483,647 or less"]),
    "a shape that became a time": ("prompt,aspect_ratio\nx,04:03:00\n", ['2: aspect_ratio: got "04:03:00"; a spreadsheet made a time of a shape: format the column as text, and write it again']),
    "a formula that failed": ("prompt\n#NAME?\n", ['2: prompt: got "#NAME?", an error of the spreadsheet: write the text again']),
    "a name twice in a cell": ('prompt,metadata\nx,"{""a"": 1, ""a"": 2}"\n', ["2: metadata.a: is there twice: leave one out"]),
    "an id that is there": ('id,prompt\na,"x\ny"\nA,z\n', ['4: id: got "A", which line 2 has as "a"; every id must be unique']),
    "no prompt": ("id,prompt\na,\n", ['2: needs exactly one of "prompt", "parts" and "request"; got none of them']),
    "Windows-1252": (b"prompt\nA caf\xe9\n", ["2: not UTF-8: byte 0xe9 at column 6; save the table as CSV UTF-8"]),
    "half of UTF-16": ("prompt\nx\n".encode("utf-16")[:-1], ["2: not UTF-16, as its beginning is; save it as CSV UTF-8"]),
    "names alone": ("id,prompt\n,\n", [" has no jobs; name the fields in the first row, such as id,prompt, and write one job per row"]),
    "nothing": ("", ["1: the first row is empty; it names the fields, such as id,prompt"]),
    "several": ("id,prompt,seed,images\na,x,1,\nb,x,y,[\na,x,z,\nd,x,1,,5\n", [
        '3: images: got the cell\'s end, which is not valid JSON (Expecting value); write a list as ["a.png", "b.png"]',
        '4: seed: got "z"; must be a whole number',
        '5: has 5 cells, and the first row 4: put a cell with "," in it into quotes',
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_problem_names_line_and_column(name: str) -> None:
    """All problems of a table are shown at once, with the line of the row, what was found, and what to do."""
    content, expected = BAD[name]
    assert problems_in(content) == [f"jobs.csv:{text}" for text in expected]


def test_a_packed_table_is_named() -> None:
    """A workbook or an archive with the suffix of a table is what it is."""
    (problem,) = problems_in(b"PK\3\4 xl/workbook.xml")
    assert problem.startswith("jobs.csv: is an Excel workbook; convert it")


def test_a_quote_that_is_not_closed_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the file, or a line of any length, is not one cell."""
    monkeypatch.setattr(tables, "MAX_CELL_CHARS", 100)
    message = (
        "2: has an opening quote that is never closed, or a cell of more than 16,777,216 characters"
    )
    for rest in ('"x\n' + "y,z\n" * 100, '"x' + "y" * 1_000, "y," * 100):
        assert problems_in(f"id,prompt\na,{rest}") == [f"jobs.csv:{message}"]


# --- the copy -----------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is edited during a run is for the next one, and no file is left behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(Path.cwd()))
    path = table("id,prompt\na,x\nb,y\n")
    with open_manifest(path) as manifest:
        for _ in manifest.scan():
            path.write_text("id,prompt\na,changed\nb,changed\n")
        assert [manifest.read(0), manifest.read(1)] == [
            Job(id="a", prompt="x"),
            Job(id="b", prompt="y"),
        ]
        assert list(Path().iterdir()) == [path]


def test_a_disk_without_space_for_the_copy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no problem of the table."""
    monkeypatch.setattr(tempfile, "tempdir", str(Path("nowhere").absolute()))
    with pytest.raises(StorageError, match=r"jobs\.csv: can't be copied; make space .* TMPDIR: "):
        open_manifest(table("prompt\nx\n"))
