"""`schema`: print the JSON Schemas of manifest lines and rows, made from the models."""

import inspect
import re
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, cast, get_args, get_type_hints

import orjson
from pydantic import TypeAdapter

from gemini_batch.errors import ExitCode
from gemini_batch.records import ResultRow, ids
from gemini_batch.records.job import ASKED_BY_FIELD, Job, JobPart

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLES: tuple[dict[str, Any], ...] = (
    {"prompt": "A cute robot mascot"},
    {
        "id": "sea/1",
        "prompt": "A sunset",
        "aspect_ratio": "16:9",
        "image_size": "2K",
        "variants": 3,
    },
    {"id": "lake", "prompt": "Add a rainbow", "images": ["lake.jpg"], "metadata": {"customer": 17}},
    {"id": "group", "parts": [{"text": "A group photo of"}, {"image": "ann.png"}]},
    {"key": "robot", "request": {"contents": [{"parts": [{"text": "A cute robot mascot"}]}]}},
)
"""Manifest lines, one for each way to describe a request."""

# A field that is null counts as absent.
_ABSENT: Mapping[str, Any] = {"type": "null"}


def main(options: Namespace) -> int:
    """Print a schema to stdout; return the exit code."""
    schema = job_schema() if options.of == "job" else row_schema()
    as_lines = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    sys.stdout.write(orjson.dumps(schema, option=as_lines).decode())
    return ExitCode.DONE


def job_schema() -> dict[str, Any]:
    """Return the schema of a manifest line; it accepts what a run accepts, as far as it can."""
    schema = Job.model_json_schema()
    schema["$defs"]["JobPart"]["oneOf"] = [_given(name) for name in JobPart.model_fields]
    fields = schema["properties"]
    fields["id"]["anyOf"][0] |= {"maxLength": ids.MAX_ID_BYTES, "pattern": ids.PATTERN}
    key = 'The same as "id", as Google\'s Batch API calls it.'
    for name in ("images", "variants"):  # null is the default of these, which no `Job` has
        rule = fields[name]
        about = {each: rule.pop(each) for each in ("description", "default") if each in rule}
        fields[name] = {"anyOf": [rule, _ABSENT], **about}
    fields["key"] = fields["id"] | {"description": key}
    rules = {
        "oneOf": [_given(way) for way in ("prompt", "parts", "request")],
        "not": {"allOf": [_given("id"), _given("key")]},
        "allOf": [
            {"if": _given("images", {"type": "array", "minItems": 1}), "then": _given("prompt")},
            {
                "if": _given("request"),
                "then": {"properties": dict.fromkeys(ASKED_BY_FIELD, _ABSENT)},
            },
        ],
    }
    schema |= rules | {"examples": list(EXAMPLES)}
    return _headed("job", "A line of a gemini_batch manifest", schema)


def row_schema() -> dict[str, Any]:
    """Return the schema of a line of `results.jsonl`; it allows fields of later versions."""
    return _headed("row", "A line of gemini_batch's results.jsonl", described(ResultRow))


def described(kind: type) -> dict[str, Any]:
    """Return the schema of a serialized dataclass, with its docstring's text for each field."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    docs = {each.__name__: each.__doc__ for each in _dataclasses(kind)}  # pydantic < 2.13 has none
    for name, part in {kind.__name__: schema, **schema.get("$defs", {})}.items():
        text = docs.get(name) or part.get("description", "")
        summary, _, rest = inspect.cleandoc(text).partition("Attributes:")
        part["description"] = _text(summary)
        fields = part.get("properties", {})
        for field, text in re.findall(r"^ {4}(\w+): (.*(?:\n {5,}\S.*)*)", rest, re.MULTILINE):
            if field in fields:
                fields[field]["description"] = _text(text)
    return schema


def _dataclasses(kind: Any) -> Iterator[type]:
    """Yield a dataclass, and those that its fields hold."""
    if is_dataclass(kind):
        yield cast(type, kind)
    for each in get_type_hints(kind).values() if is_dataclass(kind) else get_args(kind):
        yield from _dataclasses(each)


def _given(name: str, rule: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the rule that a field is present and not null."""
    return {"required": [name], "properties": {name: rule or {"not": _ABSENT}}}


def _headed(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Put the schema's own names first, and drop the titles of fields, which repeat their names."""
    for part in (schema, *schema["$defs"].values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)
    head = {"$schema": DIALECT, "$id": f"urn:gemini_batch:schema:{name}"}
    return head | schema | {"title": title}


def _text(text: str) -> str:
    """Return the text as one line, with JSON's null instead of Python's None."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))
