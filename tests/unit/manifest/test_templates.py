"""Templates: the jobs of lines, lists and tables, and all that can be wrong with them."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.errors import InputError
from gemini_batch.manifest import SHOWN_PROBLEMS, template_lines
from gemini_batch.manifest.templates import expand

LINE = {"id": "{animal}", "prompt": "A {animal}"}
ANIMALS = "animal\nfox\nowl\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def jobs(
    *lines: dict[str, Any] | str,
    table: str | None = None,
    suffix: str = "csv",
    product: bool = False,
) -> list[dict[str, Any]]:
    """Return the jobs of a template, as they are written."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path("t.jsonl").write_text("\n".join(texts), "utf-8")
    variables = None
    if table is not None:
        variables = Path(f"v.{suffix}")
        variables.write_text(table, "utf-8")
    with tempfile.NamedTemporaryFile() as spool:
        expand(Path("t.jsonl"), variables, spool, is_product=product)
        spool.seek(0)
        return [json.loads(line) for line in spool]


def problems(*lines: dict[str, Any] | str, **given: Any) -> list[str]:
    """Return what is said of a template."""
    with pytest.raises(InputError) as refused:
        jobs(*lines, **given)
    return str(refused.value).splitlines()


# --- what is made -------------------------------------------------------------------------------


def test_each_row_is_combined_with_each_combination_of_a_line_s_lists() -> None:
    """Row by row, line by line, the last list fastest; all variables are kept as metadata."""
    line = {
        "id": "{animal}/{style}-{n}",
        "prompt": "A {animal}, {style}, {n}",
        "vars": {"style": ["ink", "oil"], "n": [1, 2]},
    }
    found = jobs(
        line, {"id": "{animal}/plain", "prompt": "A {animal}"}, table="animal,sku\nfox,F\nowl,\n"
    )
    assert [job["id"] for job in found] == [
        f"{animal}/{rest}"
        for animal in ("fox", "owl")
        for rest in ("ink-1", "ink-2", "oil-1", "oil-2", "plain")
    ]
    assert found[1] == {
        "id": "fox/ink-2",
        "prompt": "A fox, ink, 2",
        "metadata": {"animal": "fox", "sku": "F", "style": "ink", "n": 2},
    }
    assert found[4]["metadata"] == {"animal": "fox", "sku": "F"}
    assert found[9]["metadata"] == {"animal": "owl"}


def test_lists_need_no_file() -> None:
    """A line alone makes its combinations."""
    line = LINE | {"vars": {"animal": ["fox", "owl"]}}
    assert [job["prompt"] for job in jobs(line)] == ["A fox", "A owl"]


def test_columns_are_multiplied_if_asked() -> None:
    """Each value of a column counts once, an empty cell is none, and lines have the columns that they use."""
    table = "animal,style\nfox,ink\nfox,oil\nowl,\n"
    line = {"id": "{animal}-{style}", "prompt": "x"}
    other = {"id": "{style}-{n}", "prompt": "x", "vars": {"n": [1]}}
    found = jobs(line, other, table=table, product=True)
    assert [job["id"] for job in found] == [
        "fox-ink",
        "fox-oil",
        "owl-ink",
        "owl-oil",
        "ink-1",
        "oil-1",
    ]
    assert found[0]["metadata"] == {"animal": "fox", "style": "ink"}


def test_placeholders_are_in_all_texts_but_those_of_a_request() -> None:
    """Lists and parts have them too; a number may be one; doubled braces are braces."""
    line = {
        "id": "{a}",
        "prompt": "{{a}} {a}",
        "system": "{a}!",
        "images": ["in/{a}.png", "b.png"],
        "aspect_ratio": "{shape}",
        "seed": "{n}",
        "temperature": "{t}",
        "metadata": {"note": ["{a}"], "a": "{a}", "b": 1},
    }
    (found,) = jobs(line, table="a;shape;n;t\nx;16:9;7;0.5\n")
    assert found == {
        "id": "x",
        "prompt": "{a} x",
        "system": "x!",
        "images": ["in/x.png", "b.png"],
        "aspect_ratio": "16:9",
        "seed": 7,
        "temperature": 0.5,
        "metadata": {"a": "x", "shape": "16:9", "n": "7", "t": "0.5", "note": ["x"], "b": 1},
    }
    request = {"contents": [{"parts": [{"text": "{a} }"}]}], "labels": {"{a}": "{"}}
    (found,) = jobs({"key": "{a}", "request": request}, table="a\nx\n")
    assert (found["key"], found["request"]) == ("x", request)
    (found,) = jobs({"id": "{a}", "parts": [{"text": "{a}"}, {"image": "{a}.png"}]}, table="a\nx\n")
    assert found["parts"] == [{"text": "x"}, {"image": "x.png"}]


def test_a_file_of_variables_may_be_a_table_or_jsonl() -> None:
    """Values of JSONL keep their types and digits; a table's are texts without blanks around them."""
    line = {"id": "{name of it}-{n}", "prompt": "{n}"}
    rows = '{"name of it": "x", "n": 1.50, "big": 123456789012345678901234, "no": null}\n\n{"name of it": "x", "n": true}'
    first, second = jobs(line, table=rows, suffix="jsonl")
    assert (first["id"], first["prompt"]) == ("x-1.5", "1.5")
    assert first["metadata"] == {"name of it": "x", "n": 1.5, "big": 123456789012345678901234}
    assert second["id"] == "x-true"
    (found,) = jobs(line, table="\ufeffname of it\tn\n x \t 1.50\n\t\n", suffix="tsv")
    assert found == {"id": "x-1.50", "prompt": "1.50", "metadata": {"name of it": "x", "n": "1.50"}}


def test_a_template_without_placeholders_is_a_manifest() -> None:
    """A line without variables stays as it is, its numbers too."""
    line = '{"id": "a", "prompt": "x", "metadata": {"n": 123456789012345678901234}}'
    assert jobs(line) == [json.loads(line)]


def test_an_empty_text_is_a_value_of_a_list() -> None:
    """Only an empty cell, which may be a gap, is none."""
    line = {
        "id": "a{n}",
        "prompt": "A{adjective} fox",
        "vars": {"adjective": ["", " red"], "n": [1]},
    }
    assert problems(line) == [
        't.jsonl:1: id: is the same for each "adjective": put {adjective} into it'
    ]
    del line["id"]
    line["seed"] = "{n}"
    assert [job["prompt"] for job in jobs(line)] == ["A fox", "A red fox"]


# --- what is wrong ------------------------------------------------------------------------------

MANY = {"animal": ["fox", "owl"]}
FAULTS: dict[str, tuple[list[dict[str, Any] | str], dict[str, Any], list[str]]] = {
    "a column that is missing": ([{"id": "{animl}", "prompt": "{animal}"}], {"table": ANIMALS}, [
        't.jsonl:1: id: {animl} is not a column of v.csv, and not in "vars"; did you mean "animal"?; {{ and }} are braces',
        "t.jsonl:1: id: is the same for each row of v.csv: put a column into it, such as {animal}",
    ]),
    "a variable without any values": ([LINE], {}, [
        't.jsonl:1: id: {animal} has no value: name a file with --vars, or write "vars": {"animal": ["…"]}',
        't.jsonl:1: prompt: {animal} has no value: name a file with --vars, or write "vars": {"animal": ["…"]}',
    ]),
    "a list that is not used": ([LINE | {"vars": MANY | {"styl": ["ink"]}}], {}, ["t.jsonl:1: vars.styl: no placeholder uses it: write {styl}, or leave it out"]),
    "a list that is misspelt": ([{"prompt": "{style}", "vars": {"styl": ["ink"]}}], {}, [
        't.jsonl:1: prompt: {style} is not in "vars"; did you mean "styl"?; {{ and }} are braces',
        't.jsonl:1: vars.styl: no placeholder uses it: did you mean "style"?',
    ]),
    "a list that is a column": ([LINE | {"vars": MANY}], {"table": ANIMALS}, ["t.jsonl:1: vars.animal: v.csv has such a column too: give it another name"]),
    "a list that is a column to be multiplied": ([LINE | {"vars": MANY}], {"table": ANIMALS, "product": True}, ["t.jsonl:1: vars.animal: v.csv has such a column too: give it another name"]),
    "lists that are none": ([{"prompt": "{a}{b}{c}", "vars": {"a": "x", "b": [], "c": [["x"]]}}], {}, [
        't.jsonl:1: vars.a: got "x"; must be a list of values: write ["x"]',
        "t.jsonl:1: vars.b: got []; must be a list of values: fill it in",
        't.jsonl:1: vars.c: got ["x"]; must be a text or a number',
    ]),
    "vars that is no object": ([{"prompt": "x", "vars": ["a"]}], {}, ['t.jsonl:1: vars: got ["a"]; must be an object of lists']),
    "a value twice": ([LINE | {"vars": {"animal": ["fox", "owl", "fox"]}}], {}, ['t.jsonl:1: vars.animal: "fox" is there twice: leave one out']),
    "one id for a list": ([{"id": "x", "prompt": "{animal}", "vars": MANY}], {}, ['t.jsonl:1: id: is the same for each "animal": put {animal} into it']),
    "one key for all rows": ([{"key": "x", "prompt": "{animal}"}], {"table": ANIMALS}, ["t.jsonl:1: key: is the same for each row of v.csv: put a column into it, such as {animal}"]),
    "a line without a column": ([LINE, {"prompt": "x"}], {"table": ANIMALS}, ["t.jsonl:2: uses no column of v.csv: each row would make the same job"]),
    "a column that is multiplied for nothing": ([LINE], {"table": "animal,style\nfox,ink\n", "product": True}, ["v.csv:1: style: no placeholder uses this column, and --product multiplies it: leave it out"]),
    "metadata of the same name": ([LINE | {"metadata": {"animal": "a {animal}"}}], {"table": ANIMALS}, ["t.jsonl:1: metadata.animal: a variable has this name too: choose another one"]),
    "a field that is misspelt": ([{"id": "{animal}", "promt": "{animal}"}], {"table": ANIMALS}, [
        't.jsonl:1: promt: no such field; did you mean "prompt"?',
    ]),
    "a field of all jobs that is wrong": ([LINE | {"image_size": "2k"}], {"table": ANIMALS}, ['t.jsonl:1: image_size: got "2k"; did you mean "2K"? allowed: 512, 1K, 2K, 4K']),
    "a brace alone": ([{"id": "{animal}", "prompt": "{animal"}], {"table": ANIMALS}, ['t.jsonl:1: prompt: got a single { in "{animal"; write {{ for a brace']),
    "no JSON": (["{animal}", "[1]", '{"prompt": "x", "prompt": "y"}'], {}, [
        't.jsonl:1: got "animal}" at column 2, which is not valid JSON (Expecting property name enclosed in double quotes); a line is one whole JSON object, such as {"prompt": "A cute robot mascot"}',
        "t.jsonl:2: got [1]; a line of a template is one whole JSON object",
        "t.jsonl:3: prompt: is there twice: leave one out",
    ]),
    "no lines": (["", " "], {}, ["t.jsonl: has no lines; a template is a line of a manifest, or more"]),
    "no rows": ([LINE], {"table": "animal\n"}, ["v.csv: has no rows"]),
    "no rows to be multiplied": ([LINE], {"table": "animal\n", "product": True}, ["v.csv: has no rows"]),
    "no columns": ([LINE], {"table": ""}, ["v.csv:1: the first row is empty; it names the columns, such as name,style"]),
    "a column twice": ([LINE], {"table": "animal,animal\nfox,owl\n"}, ['v.csv:1: "animal" is there twice: leave one column out']),
    "an empty cell": ([LINE, {"id": "2{animal}", "prompt": "x"}], {"table": "animal,n\n,1\nfox,2\n"}, [
        "v.csv:2: animal: is empty, and t.jsonl:1 uses it: fill it in",
        "v.csv:2: animal: is empty, and t.jsonl:2 uses it: fill it in",
    ]),
    "bad rows": ([LINE], {"table": 'animal,n\nfox,red,1\n"o"wl\n#REF!\n"cut'}, [
        'v.csv:2: has 3 cells, and the first row 2: put a cell with "," in it into quotes',
        'v.csv:3: has text after a closing quote: write a quote in a cell twice, as ""',
        'v.csv:4: got "#REF!", an error of the spreadsheet: write the text again',
        "v.csv:5: has an opening quote that is never closed: close it, or leave it out",
    ]),
    "bad rows of JSONL": ([LINE], {"suffix": "jsonl", "table": '{"animal": "fox"}\n{"a": 1}\n[1]\n{"animal": {}}\n{"a": 1, "a": 2}\n{'}, [
        "v.jsonl:2: animal: is empty, and t.jsonl:1 uses it: fill it in",
        "v.jsonl:3: got [1]; a line is one JSON object",
        "v.jsonl:4: animal: got {}; must be a text or a number",
        "v.jsonl:5: a: is there twice: leave one out",
        "v.jsonl:6: not valid JSON: unexpected end of data: line 1 column 2 (char 1)",
    ]),
    "two jobs with one id": ([LINE, {"id": "{animal}.2", "prompt": "x"}], {"table": "animal\nfox\nowl\nFOX\n"}, [
        'v.csv:4: id: got "FOX", which v.csv:2 (t.jsonl:1) has as "fox"; every id must be unique (t.jsonl:1)',
        'v.csv:4: id: got "FOX.2", which v.csv:2 (t.jsonl:2) has as "fox.2"; every id must be unique (t.jsonl:2)',
    ]),
    "an id that a variant has": ([LINE | {"variants": 2}, {"id": "{animal}.2", "prompt": "x"}], {"table": "animal\nfox\n"}, [
        'v.csv:2: id: got "fox.2", which variant 2 of v.csv:2 (t.jsonl:1) has; every id must be unique (t.jsonl:2)',
    ]),
    "two combinations with one id": ([{"id": "{a}{b}", "prompt": "x", "vars": {"a": ["x", "xx"], "b": ["x", "xx"]}}], {}, [
        't.jsonl:1: id: got "xxx", which t.jsonl:1 (a "x", b "xx") has; every id must be unique (a "xx", b "x")',
    ]),
    "a value that is no id": ([LINE], {"table": "animal\na:b\n"}, ["v.csv:2: id: got \"a:b\"; ':' can't be in a file's name: leave it out"]),
    "a value that its field refuses": ([LINE | {"seed": "{n}", "aspect_ratio": "{shape}"}], {"table": "animal;n;shape\nfox;1;1:1\nowl;x;4:5x\ncat;2;04:05:00\n"}, [
        'v.csv:4: aspect_ratio: got "04:05:00"; a spreadsheet made a time of a shape: format the column as text, and write it again',
        'v.csv:3: aspect_ratio: got "4:5x"; allowed: 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9, 1:4, 4:1, 1:8, 8:1',
        'v.csv:3: seed: got "x"; must be a whole number',
    ]),
    "a value of the first row": ([LINE | {"aspect_ratio": "{shape}"}], {"table": "animal;shape\nfox;x\nowl;1:1\n"}, ['v.csv:2: aspect_ratio: got "x"; allowed: 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9, 1:4, 4:1, 1:8, 8:1']),
    "a file of another kind": ([LINE], {"table": "PAR1"}, ['v.csv: is a Parquet file; convert it, with pandas: DataFrame.to_json("jobs.jsonl", orient="records", lines=True); a manifest is JSONL, one job per line, such as {"prompt": "A cute robot mascot"}']),
    "a template that is a table": (["id,prompt", "a,x"], {}, ["t.jsonl: is CSV: give it a name that ends in .csv, or add --format csv"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_all_problems_are_shown_with_file_and_line(name: str) -> None:
    """Of a line for all its jobs once, of a value with its row, of a combination with its values."""
    lines, given, expected = FAULTS[name]
    assert problems(*lines, **given) == expected


VALUES = st.recursive(
    st.sampled_from(["{a}", "{b}", "{{", "}", "x", "", "#N/A", None, 1, 2.5, True, 10**30]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
LINES = st.dictionaries(
    st.sampled_from(["id", "key", "prompt", "images", "parts", "seed", "metadata", "request", "vars", "model", "oops"]),
    VALUES,
    max_size=4,
)  # fmt: skip


@given(
    st.lists(LINES | VALUES, max_size=3),
    st.none() | st.lists(st.sampled_from(["a", "b", ",", "\n", '"', "{", "1", ""]), max_size=9),
    st.booleans(),
)
def test_any_template_is_expanded_or_has_problems(
    lines: list[Any],
    words: list[str] | None,
    product: bool,  # noqa: FBT001
) -> None:
    """A template and its variables end in jobs, or in a message."""
    table = None if words is None else "".join(words)
    with suppress(InputError):
        jobs(*map(json.dumps, lines), table=table, product=product and table is not None)


def test_problems_of_lines_and_rows_are_shown_together() -> None:
    """A line that is wrong hides no problem of the others and of the file."""
    found = problems(
        {"id": "{animal}", "prompt": "{anima}"},
        LINE | {"id": "2{animal}"},
        table="animal,n\nfox,1\n,2\na:b,3\n",
    )
    assert [text.split(": ")[0] for text in found] == ["t.jsonl:1", "v.csv:3", "v.csv:4"]


def test_of_many_problems_the_first_are_shown() -> None:
    """The rest is counted, those of ids included."""
    table = "animal\n" + "a:b\n" * 30 + 'fox\n"o"x\n' * 40
    found = problems(LINE, table=table)
    assert len(found) == SHOWN_PROBLEMS + 1
    # 40 rows, 30 ids that name no file, and 29 and 39 that are there.
    assert (
        found[-1] == f"t.jsonl: and {40 + 30 + 29 + 39 - SHOWN_PROBLEMS} more problems like these"
    )


def test_lists_that_make_too_many_jobs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten lists of ten would fill any disk."""
    monkeypatch.setattr(template_lines, "MAX_JOBS", 7)
    line = {"prompt": "{a}{b}{c}", "vars": {name: [1, 2] for name in "abc"}}
    assert problems(line) == ["t.jsonl:1: its lists make 8 jobs; allowed: 7"]


@pytest.mark.parametrize("name", ["t.jsonl", "v.csv"])
def test_a_file_that_is_missing_is_named(name: str) -> None:
    """Of a template, and of a file of variables."""
    Path("t.jsonl").write_text(json.dumps(LINE))
    Path("v.csv").write_text(ANIMALS)
    Path(name).unlink()
    with tempfile.NamedTemporaryFile() as spool, pytest.raises(InputError) as refused:
        expand(Path("t.jsonl"), Path("v.csv"), spool)
    assert str(refused.value) == f"{name}: there is no such file"
