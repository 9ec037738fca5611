from types import ModuleType
from typing import Any

import pytest

from gemini_batch.plan import Plan, request_names
from gemini_batch.records.job import Job
from gemini_batch.simulator import gemini_schema, vertex_schema
from gemini_batch.simulator.schema import Kind, Message
from tests.unit.plan.jobs import PLANNER, job, refusal

CONTENTS = [{"parts": [{"text": "x"}]}]


def raw(**fields: Any) -> dict[str, Any]:
    """Return a request for a picture with more fields."""
    return {"contents": CONTENTS, **fields}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "the SDK's config": (raw(config={}), 'request.config: no such field; did you mean "generationConfig"?'),
    "another case": (
        raw(generationconfig={}),
        'request.generationconfig: no such field; did you mean "generationConfig"?',
    ),
    "hyphens": (
        raw(**{"system-instruction": {}}),
        'request.system-instruction: no such field; did you mean "systemInstruction"?',
    ),
    "another API's messages": (raw(messages=[]), 'request.messages: no such field; did you mean "contents"?'),
    "a field of generationConfig at the top": (
        raw(imageConfig={}),
        'request.imageConfig: no such field; did you mean "imageConfig" in "generationConfig"?',
    ),
    "a field of imageConfig above it": (
        raw(generationConfig={"image_size": "2K"}),
        'request.generationConfig.image_size: no such field; did you mean "imageSize" in "generationConfig.imageConfig"?',
    ),
    "a field of the top in generationConfig": (
        raw(generation_config={"tools": []}),
        'request.generation_config.tools: no such field; did you mean "tools" in "request"?',
    ),
    "a typing mistake": (
        raw(generationConfig={"temprature": 1}),
        'request.generationConfig.temprature: no such field; did you mean "temperature"?',
    ),
    "a size in small letters": (
        raw(generationConfig={"imageConfig": {"imagesize": "2K"}}),
        'request.generationConfig.imageConfig.imagesize: no such field; did you mean "imageSize"?',
    ),
    "one modality": (
        raw(generationConfig={"responseModality": ["IMAGE"]}),
        'request.generationConfig.responseModality: no such field; did you mean "responseModalities"?',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_name_that_is_near_a_known_one_is_refused(name: str) -> None:
    """The API refuses it, line for line, and each refusal uses up quota."""
    request, message = WRONG[name]
    assert refusal(request=request) == [f"jobs.jsonl:17: {message}"]


@pytest.mark.parametrize(
    "request_",
    [
        raw(generationConfig={"responseModalities": ["IMAGE"], "imageConfig": {"imageSize": "2K"}}),
        raw(generation_config={"response_modalities": ["IMAGE"], "image_config": {"image_size": "2K"}}),
        raw(generationConfig={"image_config": {"aspectRatio": "1:1"}, "topP": 1, "top_k": 3, "seed": 1}),
        raw(safety_settings=[], systemInstruction={}, tools=[{"google_search": {}}], labels={"a": "b"}),
        raw(model="m", cachedContent="c", serviceTier="flex", store=True),
        raw(generationConfig=None, systemInstruction=None),
        raw(generationConfig={"thinkingConfig": {"thinking_level": "LOW"}, "responseFormat": {}}),
        raw(tools=[{"config": {"imagesize": 1}}]),
    ],
    ids=str,
)  # fmt: skip
def test_the_api_s_names_pass(request_: dict[str, Any]) -> None:
    """Both spellings of protobuf's JSON are known, at each level, and mixed."""
    assert request_names.check(request_) == ([], ())


@pytest.mark.parametrize(
    ("request_", "unknown"),
    [
        (raw(watermarkPolicy={}), "request.watermarkPolicy"),
        (raw(generationConfig={"styleReferences": []}), "request.generationConfig.styleReferences"),
        (raw(generation_config={"image_config": {"person_generation": "x"}}),
         "request.generation_config.image_config.person_generation"),
        (raw(x=1), "request.x"),
        (raw(**{"": 1}), "request."),
    ],
)  # fmt: skip
def test_an_unknown_name_passes(request_: dict[str, Any], unknown: str) -> None:
    """A new field of the API is sent, and warned of."""
    assert request_names.check(request_) == ([], (unknown,))
    request = PLANNER.request(job(request=request_), 1)
    assert request.raw
    assert (request.raw.body, request.raw.unknown) == (request_, (unknown,))


@pytest.mark.parametrize("schema", [gemini_schema, vertex_schema])
def test_every_field_of_the_simulator_s_api_is_known(schema: ModuleType) -> None:
    """The simulator has tables of its own of both APIs: none lacks a name of the others."""
    request: dict[str, Any] = names(schema.REQUEST)
    # The warning of Vertex AI's own fields of images is wanted: they cost a 400 at the other API.
    images = names(gemini_schema.GENERATION_CONFIG.fields["image_config"])
    config = request["generation_config"] | {"image_config": images}
    assert request_names.check(request | {"generation_config": config}) == ([], ())


def names(kind: Kind) -> Any:
    """Return an object with all names of a message, and of the messages in it."""
    if not isinstance(kind, Message):
        return None
    return {name: names(field) for name, field in kind.fields.items()}


def test_an_unknown_name_is_one_warning() -> None:
    """However many lines have it, it is one entry with their number and the first line."""
    plan = Plan(PLANNER)
    requests = [raw(), raw(newField=1), raw(newField=2, other={}), raw(newField=3)]
    for line, request in enumerate(requests, 1):
        plan.add(Job.model_validate({"id": f"{line}", "request": request, "variants": 2}), line)
    assert {
        name: (each.jobs, each.first_line) for name, each in plan.unusual.unknown_fields.items()
    } == {"request.newField": (3, 2), "request.other": (1, 3)}  # fmt: skip
    assert plan.unusual.unknown_fields["request.newField"].warning("request.newField") == (
        "request.newField: not a field that this version knows; it is sent as it stands, and may be refused "
        "(3 lines have it)"
    )


def test_the_names_of_a_hostile_manifest_are_bounded() -> None:
    """A name of its own for each line, of any length, takes no memory for each."""
    plan = Plan(PLANNER)
    for line in range(1, 200):
        request = raw(**{f"{line:_>100}" + "y" * 1_000: 1})
        plan.add(Job.model_validate({"id": f"{line}", "request": request}), line)
    assert len(plan.unusual.unknown_fields) <= 20
    assert all(len(name) < 100 for name in plan.unusual.unknown_fields)
