"""JSON Schemas of what a person writes and reads, made of the models themselves: an editor completes a manifest by them. Pure."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from gemini_batch.records import ResultRow, ids
from gemini_batch.records.job import ASKED_BY_FIELD, Job, JobPart

DIALECT = "https://json-schema.org/draft/2020-12/schema"
EXAMPLES = (
    {"prompt": "A cute robot mascot"},
    {"id": "icons/sunset", "prompt": "A mountain at sunset", "aspect_ratio": "16:9", "image_size": "2K", "variants": 3},
    {"id": "rainbow", "prompt": "Add a rainbow in the sky", "images": ["inputs/lake.jpg"], "metadata": {"customer": 17}},
    {"id": "group", "parts": [{"text": "A group photo of"}, {"image": "ann.png"}, {"text": "and"}, {"image": "bob.png"}]},
    {"key": "robot", "request": {"contents": [{"parts": [{"text": "A cute robot mascot"}]}]}},
)  # fmt: skip
"""Manifest lines, one for each way to ask."""

# A field that is null counts as left out.
_ABSENT: Mapping[str, Any] = {"type": "null"}


def job_schema() -> dict[str, Any]:
    """Return the schema of one manifest line: what it takes is what a run takes, as far as a schema can say it."""
    schema = Job.model_json_schema()
    schema["$defs"]["JobPart"]["oneOf"] = [_given(name) for name in JobPart.model_fields]
    fields = schema["properties"]
    fields["id"]["anyOf"][0] |= {"maxLength": ids.MAX_ID_BYTES, "pattern": ids.PATTERN}
    fields["key"] = fields["id"] | {
        "description": 'The same as "id", as Google\'s Batch API calls it.'
    }
    rules = {
        "oneOf": [_given(way) for way in ("prompt", "parts", "request")],
        "not": {"required": ["id", "key"]},
        "allOf": [
            {"if": _given("images", {"minItems": 1}), "then": _given("prompt")},
            {
                "if": _given("request"),
                "then": {"properties": dict.fromkeys(ASKED_BY_FIELD, _ABSENT)},
            },
        ],
    }
    return _headed(
        "job", "A line of a gemini_batch manifest", schema | rules | {"examples": list(EXAMPLES)}
    )


def row_schema() -> dict[str, Any]:
    """Return the schema of one line of `results.jsonl`; a later version may add fields, so others are let through."""
    return _headed("row", "A line of gemini_batch's results.jsonl", described(ResultRow))


def described(kind: type) -> dict[str, Any]:
    """Return the schema of a dataclass as it is written down, with what its docstring says of each field."""
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    for part in (schema, *schema["$defs"].values()):
        summary, texts = _documented(part.get("description"))
        part["description"] = _as_json(summary)
        for name, field in part.get("properties", {}).items():
            if name in texts:
                field["description"] = _as_json(texts[name])
    return schema


def _documented(docstring: str | None) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of a class, and of each field in its section "Attributes"."""
    summary, _, rest = inspect.cleandoc(docstring or "").partition("Attributes:")
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {5,}\S.*)*)", rest, re.MULTILINE)
    return _one_line(summary), {name: _one_line(text) for name, text in entries}


def _given(name: str, how: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the rule that a field is there, and is not null."""
    return {"required": [name], "properties": {name: how or {"not": _ABSENT}}}


def _headed(name: str, title: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Put the schema's own names first; a field's title is its name once more, and left out."""
    for part in (schema, *schema["$defs"].values()):
        for field in part.get("properties", {}).values():
            field.pop("title", None)
    return (
        {"$schema": DIALECT, "$id": f"urn:gemini_batch:schema:{name}"} | schema | {"title": title}
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _as_json(text: str) -> str:
    """Python's None is JSON's null."""
    return re.sub(r"\bNone\b", "null", text)
