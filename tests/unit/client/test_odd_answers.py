"""Answers that are nearly of the documented form: a picture that arrived in its place is one."""

import json
from typing import Any

import pytest

from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, Failure, FailureKind, RemoteImage
from tests.dresses import events, png
from tests.unit.client.extracting import b64
from tests.unit.client.responses import IMAGES, candidate, image, inline, reply
from tests.unit.client.test_receiver import pictures

PICTURE = png(11)
PART = {"inlineData": {"mimeType": "image/png", "data": b64(PICTURE).decode()}}
NOTHING: dict[str, Any] = {
    "null": {"finishReason": None},
    "null in proto names": {"finish_reason": None},
    "an empty text": {"finishReason": ""},
    "unspecified": {"finishReason": "FINISH_REASON_UNSPECIFIED"},
    "0": {"finishReason": 0},
}


def documents(first: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """Return an answer in three objects, the picture in the second one."""
    return [
        {"candidates": [{"content": {"parts": [{"text": "Here"}]}} | first], **fields},
        {"candidates": [{"content": {"parts": [PART]}} | first], **fields},
        {"candidates": [{"content": {"parts": []}, "finishReason": "STOP"}], "usageMetadata": {}},
    ]


@pytest.mark.parametrize("name", NOTHING)
@pytest.mark.parametrize("size", [1, 9, 1000])
def test_a_reason_that_says_nothing_is_not_the_end(name: str, size: int) -> None:
    """A stream whose every object has all fields, null where there is none, is read to its end."""
    found = documents(NOTHING[name])
    lines = b"\n".join(json.dumps(each).encode() for each in found)
    assert pictures(lines, [size]) == [PICTURE]
    assert pictures(events(found), [size]) == [PICTURE]


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_an_error_that_says_nothing_is_not_the_end(error: Any) -> None:
    """The same for an `error` and a `blockReason` of nothing."""
    fields = {"error": error, "promptFeedback": {"blockReason": None}}
    lines = b"\n".join(json.dumps(each, indent=1).encode() for each in documents({}, **fields))
    assert pictures(lines) == [PICTURE]


def test_a_reason_is_the_end_also_before_other_objects() -> None:
    """What follows an object with a reason is not part of the answer."""
    first = {"candidates": [{"content": {"parts": [PART]}, "finishReason": "STOP"}]}
    body = json.dumps(first).encode() + b"\n" + json.dumps(documents({})[0]).encode()
    assert pictures(body) == [PICTURE]


WHOLE = candidate(inline(0))["candidates"][0]
ODD: dict[str, dict[str, Any]] = {
    "a candidate of null": {"candidates": [None, WHOLE]},
    "a candidate that is a text": {"candidates": ["x", WHOLE]},
    "a candidate of other fields": {"candidates": [{"citationMetadata": {}}, WHOLE]},
    "a candidate with a text as its content": {"candidates": [{"content": "x"}, WHOLE]},
    "the output of another API": {"candidates": [WHOLE | {"output": "x"}]},
    "an error beside it": {"candidates": [None, WHOLE], "error": {"code": 503, "message": "x"}},
}


@pytest.mark.parametrize("name", ODD)
def test_an_image_in_its_place_is_the_result(name: str) -> None:
    """Whatever is wrong with the object around it, an image that was paid for is kept."""
    outcome = reply(ODD[name], IMAGES[:1])
    assert outcome.image is not None
    assert outcome.image.file == "part.0"


def test_without_an_image_it_is_no_answer() -> None:
    """The same objects are another API's when no image arrived."""
    for body in ODD.values():
        outcome = parse_answer(Answer(200, json.dumps(body).encode(), (image(0, 0),)))
        assert not hasattr(outcome, "image") or outcome.image is None


LINKED: dict[str, dict[str, Any]] = {
    "fileData with another name": {
        "fileData": {"uri": "https://a.test/x", "mimeType": "image/png"}
    },
    "a part of OpenAI": {"type": "image_url", "image_url": {"url": "https://a.test/x.png"}},
    "a file in a bucket": {"file": {"name": "x", "gcs": ["GS://bucket/x.png"]}},
}


@pytest.mark.parametrize("name", LINKED)
def test_an_address_where_none_is_expected_is_named(name: str) -> None:
    """It may be the image: the answer is kept, and its call is no final `blocked`."""
    body = json.dumps(candidate({"text": "Here"}, LINKED[name])).encode()
    outcome = parse_answer(Answer(200, body))
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.MALFORMED
    assert "an image where none is expected: parts[1]." in outcome.message


@pytest.mark.parametrize(
    "part",
    [
        {"text": "https://a.test/x.png"},
        {"functionCall": {"args": {"url": "https://a.test/x.png"}}},
        {"executable_code": {"code": "https://a.test/x.png"}},
        {"codeExecutionResult": {"output": "https://a.test/x.png"}},
    ],
)
def test_an_address_of_a_text_or_of_code_is_none(part: dict[str, Any]) -> None:
    """A model may write of any address."""
    assert reply(candidate(part)).block_reason == "EMPTY"


@pytest.mark.parametrize(
    "text",
    [
        '<img src="https://a.test/x?a=1&b=%2F">',
        "<p><IMG alt='a' width=9 src = 'https://a.test/x?a=1&amp;b=%2F' /></p>",
        "Here: <img\n class=x src=https://a.test/x?a=1&amp;b=%2F>",
    ],
)
def test_an_image_of_html_is_fetched_as_one_of_markdown(text: str) -> None:
    """Gateways for chats show images so."""
    assert reply(candidate({"text": text})).remote == (
        RemoteImage("https://a.test/x?a=1&b=%2F", "", False),
    )
    assert not reply(candidate({"text": '<a href="https://a.test/x?a=1">x</a>'})).remote
