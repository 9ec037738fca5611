"""`python -m tests.render [--check]`: renders the generated parts of README and `docs/`.

The text between `<!-- NAME: begin … -->` and `<!-- NAME: end -->` is rendered here: the help of every
command, tables of a manifest's, a row's and a summary's fields, of log events and exit codes, and the
tests that hold each promise.
"""

import argparse
import ast
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

from gemini_batch import RunConfig
from gemini_batch.cli.arguments import parser
from gemini_batch.cli.schema import described, job_schema, row_schema
from gemini_batch.engine.summary import Summary
from gemini_batch.errors import ExitCode
from gemini_batch.progress import json_log

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COLUMNS = "100"
PROMISES = ("kept", "once", "quota", "budget", "valid", "clear")
_KINDS = {"string": "text", "object": "an object", "boolean": "true or false"}


def manifest() -> str:
    """Return the table of a manifest line's fields."""
    schema = job_schema()
    fields = {name: field for name, field in schema["properties"].items() if name != "key"}
    rows = [
        (
            f"`{name}`" + (" or `key`" if name == "id" else ""),
            _kind(field, schema["$defs"]),
            field["description"],
        )
        for name, field in fields.items()
    ]
    return _table(("field", "is", ""), rows)


def rows() -> str:
    """Return the table of a row's fields."""
    return _fields(row_schema())


def summary() -> str:
    """Return the tables of what `summary.json` has, one for each object in it."""
    schema = described(Summary)
    tables = [_fields(schema)]
    for name, field in schema["properties"].items():
        if nested := schema["$defs"].get(_of(field), {}).get("properties"):
            tables.append(
                f"`{name}` has:\n\n" + _fields({"properties": nested, "$defs": schema["$defs"]})
            )
    return "\n".join(tables)


def options() -> str:
    """Return the table of the options of a run from Python."""
    return _fields(described(RunConfig)).replace("null", "None")


def log() -> str:
    """Return the table of the events of `--log-format json`, from the docstring of its module."""
    entries = re.findall(
        r"^- (`\w+`) \((.*?)\):\s+(`.*?`)$", json_log.__doc__ or "", re.DOTALL | re.MULTILINE
    )
    rows = [
        (event, " ".join(when.split()), " ".join(fields.split())) for event, when, fields in entries
    ]
    return _table(("event", "when", "fields"), rows)


def exit_codes() -> str:
    """Return the table of exit codes."""
    return _table(("exit code", ""), [(str(code.value), code.meaning) for code in ExitCode])


def help_texts() -> str:
    """Return the help of every command, as a terminal of 100 columns shows it."""
    return "\n".join(
        f"## {' '.join(['gemini-batch', *each[:-1]])}\n\n```text\n{help_of(each)}\n```\n"
        for each in _asked()
    )


def promise(name: str) -> str:
    """Return the list of the tests that are marked with a promise, with what each one holds."""
    return "".join(
        f"- {text}<br>`{path}::{test}`\n" for path, test, text in sorted(_promised(name))
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "manifest": manifest,
    "rows": rows,
    "summary": summary,
    "options": options,
    "log": log,
    "exit codes": exit_codes,
    "help": help_texts,
    **{f"promise {name}": partial(promise, name) for name in PROMISES},
}


def rendered(text: str, names: Sequence[str] = tuple(BLOCKS)) -> str:
    """Return a page with those of these blocks that it has rendered again."""
    for name in names:
        begin = f"<!-- {name}: begin; made by `python -m tests.render` -->\n"
        end = f"<!-- {name}: end -->\n"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if found and closed:
            text = f"{before}{begin}\n{BLOCKS[name]()}\n{end}{after}"
    return text


def _promised(name: str) -> Iterator[tuple[str, str, str]]:
    """Yield file, name and first line of each test with this promise."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        source = path.read_text("utf-8")
        if "mark.promise" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                marks = {ast.unparse(each) for each in node.decorator_list}
                if f"pytest.mark.promise({name!r})" in marks:
                    said = (ast.get_docstring(node) or "").partition("\n")[0]
                    yield str(path.relative_to(ROOT)), node.name, said


def _asked() -> Iterator[list[str]]:
    yield ["--help"]
    for command in commands():
        yield [command, "--help"]


def commands() -> list[str]:
    """Return the names of all commands, in the order of the help."""
    return re.findall(
        r"^    ([a-z]+)", help_of(["--help"]).partition("\ncommands:\n")[2], re.MULTILINE
    )


def help_of(arguments: list[str]) -> str:
    """Return what a command line that asks for help prints, at a fixed width."""
    with (
        patch.dict(os.environ, {"COLUMNS": COLUMNS}),
        redirect_stdout(StringIO()) as shown,
        suppress(SystemExit),
    ):
        parser().parse_args(arguments)
    return shown.getvalue().rstrip()


def _fields(schema: dict[str, Any]) -> str:
    found = schema["properties"].items()
    return _table(
        ("field", "is", ""),
        [
            (f"`{name}`", _kind(field, schema.get("$defs", {})), field["description"])
            for name, field in found
        ],
    )


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *body]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def _kind(field: dict[str, Any], defs: dict[str, Any]) -> str:
    """Return the values of a field as a text; null, which counts as absent, is left out."""
    ways = [_one(way, defs) for way in field.get("anyOf", [field]) if way.get("type") != "null"]
    return " or ".join(dict.fromkeys(ways))


def _one(way: dict[str, Any], defs: dict[str, Any]) -> str:
    match way:
        case {"$ref": str(name)}:
            text = _one(defs[name.rpartition("/")[2]], defs)
        case {"enum": list(values)}:
            text = " ".join(f"`{value}`" for value in values)
        case {"type": "array"}:
            text = f"a list of {_one(way['items'], defs)}" if way.get("items") else "a list"
        case {"type": "object", "properties": dict(names)}:
            text = "{" + ", ".join(f"`{name}`" for name in names) + "}"
        case {"type": "integer" | "number" as kind}:
            text = ("a whole number" if kind == "integer" else "a number") + _range(way)
        case {"anyOf": list(ways)}:
            text = " or ".join(dict.fromkeys(_one(each, defs) for each in ways))
        case {"format": "date-time"}:
            text = "a time"
        case _:
            text = _KINDS.get(way.get("type", ""), "anything")
    return text


def _of(field: dict[str, Any]) -> str:
    """Return the name of the object that a field is, or is a list of."""
    ways = field.get("anyOf", [field])
    return next(
        (
            way.get("items", way).get("$ref", "").rpartition("/")[2]
            for way in ways
            if "$ref" in way.get("items", way)
        ),
        "",
    )


def _range(way: dict[str, Any]) -> str:
    least, most = way.get("minimum"), way.get("maximum")
    if least is None or most is None:
        return ""
    # Some versions of pydantic write 2.0 for a limit of 2.
    least, most = (int(each) if each == int(each) else each for each in (least, most))
    return f" from {least:,} to {most:,}"


def main() -> int:
    """Render, or check; return the exit code."""
    options = argparse.ArgumentParser(
        prog="python -m tests.render", description="Write into README and docs what the code knows."
    )
    options.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one differs"
    )
    given = options.parse_args()
    made = {path: rendered(path.read_text("utf-8")) for path in FILES}
    if given.check:
        return int(any(path.read_text("utf-8") != text for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
