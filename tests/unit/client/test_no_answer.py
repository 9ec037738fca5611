"""Successes that are no answer of the API, or an error, or an answer in pieces."""

import base64
import json
from typing import Any

import pytest

from gemini_batch.client.response import EMPTY, parse_answer
from gemini_batch.engine.retry import may_be_billed
from gemini_batch.records import Answer, ApiError, Failure, FailureKind, IncomingImage, Reply
from tests.unit.client.responses import IMAGES, candidate, image, inline, reply

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
# Longer than all values that are looked at.
RAW = [*base64.b64decode(PIXEL), *[0] * 20_000]


def parsed(body: Any, images: tuple[IncomingImage, ...] = ()) -> Any:
    """Parse a success."""
    return parse_answer(Answer(200, json.dumps(body).encode(), images, retry_after_s=7.0))


NO_ANSWERS: dict[str, tuple[Any, bool, str]] = {
    "an error as text": (
        {"error": "quota exceeded"},
        False,
        "not one of the Gemini API: quota exceeded",
    ),
    "an error of OpenAI": (
        {"error": {"message": "Incorrect key", "type": "auth", "code": "invalid_api_key"}},
        False,
        "not one of the Gemini API: Incorrect key",
    ),
    "errors": ({"errors": ["one", "two"]}, False, "['one', 'two']"),
    "an error without anything": ({"error": {}}, True, "an object with 'error'"),
    "a code of success": ({"error": {"code": 200, "message": "OK"}}, False, ": OK"),
    "nothing": ({}, True, "an empty object"),
    "no array": ([], True, "an empty array"),
    "an array of nothing": ([{}, 1], True, "an array of 2"),
    "null": (None, True, "the JSON value 'None'"),
    "a number": (7, True, "the JSON value '7'"),
    "a wrapper": (
        {"response": candidate({"inlineData": {"data": PIXEL}}), "traceId": "1"},
        True,
        "'traceId'; an image may be at response.candidates[0].content.parts[0].inlineData.data",
    ),
    "the images API": ({"created": 1, "data": [{"b64_json": PIXEL}]}, True, "at data[0].b64_json"),
    "a URL": ({"data": [{"url": "data:image/webp;base64," + "A" * 40}]}, True, "at data[0].url"),
    "the chat API": (
        {"id": "x", "choices": [], "usage": {}},
        True,
        "an object with 'id', 'choices', 'usage'",
    ),
    "predictions": ({"predictions": [{"bytesBase64Encoded": PIXEL}]}, True, "at predictions[0]"),
    "PaLM's texts": (
        {"candidates": [{"output": "hi", "safetyRatings": []}]},
        True,
        "with 'candidates'",
    ),
    "PaLM's messages": (
        {"candidates": [{"author": "1", "content": "hi"}]},
        True,
        "with 'candidates'",
    ),
    "candidates of another type": ({"candidates": {"content": {}}}, True, "with 'candidates'"),
    "candidates of texts": ({"candidates": ["hi"]}, True, "with 'candidates'"),
    "candidates null": ({"candidates": None}, True, "with 'candidates'"),
    "usage of another type": ({"usageMetadata": 7}, True, "with 'usageMetadata'"),
    "a model": (
        {"name": "models/m", "version": "1", "a": 1, "b": 1, "c": 1, "d": 1},
        True,
        "'c' …",
    ),
    "names that move the cursor": ({"\x1b[31m" + "x" * 99: 1}, True, f"'[31m{'x' * 46}'"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_a_200_of_something_else_is_no_result(name: str) -> None:
    """It is a failure whose sentence says what came; an error was not billed."""
    body, may_be_billed, says = NO_ANSWERS[name]

    outcome = parsed(body)

    assert isinstance(outcome, Failure), outcome
    assert (outcome.kind, outcome.may_be_billed) == (
        FailureKind.NOT_AN_ANSWER,
        may_be_billed,
    )
    assert says in outcome.message
    assert len(outcome.message) < 500


# --- errors ---

ERRORS: dict[str, tuple[dict[str, Any], int, str]] = {
    "Google's": (
        {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"},
        503,
        "UNAVAILABLE",
    ),
    "a code alone": ({"code": 429}, 429, "RESOURCE_EXHAUSTED"),
    "a code as text": ({"code": "504", "message": "Late"}, 504, "DEADLINE_EXCEEDED"),
    "a gateway's refusal": ({"code": 400, "message": "no"}, 400, ""),
    "a status alone": ({"status": "RESOURCE_EXHAUSTED", "message": "x"}, 429, "RESOURCE_EXHAUSTED"),
    "a number of gRPC": ({"code": 8, "message": "x"}, 429, "RESOURCE_EXHAUSTED"),
    "a name of gRPC": ({"code": "UNAUTHENTICATED"}, 401, "UNAUTHENTICATED"),
    "another status": ({"code": 403, "status": "UNAVAILABLE"}, 403, "UNAVAILABLE"),
    "in the words of HTTP": (
        {"code": 503, "message": "Late", "status": "Service Unavailable"},
        503,
        "UNAVAILABLE",
    ),
    "quoted as JSON": (
        {"code": 500, "message": 'got 503: {"error": {"code": 503, "status": "UNAVAILABLE"}}.'},
        503,
        "UNAVAILABLE",
    ),
    "the last of gRPC": ({"code": 16}, 401, "UNAUTHENTICATED"),
}


@pytest.mark.parametrize(
    "wrap", [dict, lambda body: [body], lambda body: [{}, {"candidates": []}, body]]
)
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_a_200_is_one_of_its_own_code(name: str, wrap: Any) -> None:
    """It leads to what the same error with its own HTTP status leads to, and was not billed."""
    error, http_status, status = ERRORS[name]

    outcome = parsed(wrap({"error": error}))

    assert isinstance(outcome, ApiError), outcome
    assert (outcome.http_status, outcome.status) == (http_status, status)
    assert (may_be_billed(outcome), outcome.retry_delay_s) == (False, 7.0)


def test_details_of_an_error_in_a_200_are_read() -> None:
    """Its reason and its delay count."""
    details = [
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34s"},
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
    ]

    outcome = parsed({"error": {"code": 400, "status": "INVALID_ARGUMENT", "details": details}})

    assert (outcome.reason, outcome.retry_delay_s) == ("API_KEY_INVALID", 34.0)


def test_an_image_next_to_an_error_is_kept() -> None:
    """What was paid for counts more than an error behind it; without an image the error counts."""
    error = {"error": {"code": 503, "message": "x"}}

    assert reply(candidate(inline(0)) | error).image
    assert reply([candidate(inline(0)), error]).image
    assert isinstance(parsed(candidate() | error), ApiError)
    assert isinstance(parsed({"candidates": [], "promptFeedback": {}} | error), ApiError)


# --- answers in pieces ---


def test_an_answer_in_several_objects_is_one() -> None:
    """Parts are joined in order; of other fields the last one counts."""
    pieces = [
        {
            "candidates": [{"content": {"parts": [{"text": "Here "}]}, "index": 0}],
            "responseId": "r",
        },
        candidate(inline(0, thought=True), finish=""),
        {"usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}, "modelVersion": "m"},
        {"candidates": [{"content": {"parts": [inline(1), {"text": "it is."}]}}]},
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"totalTokenCount": 9}},
        {"candidates": [{"finishReason": None}]},
    ]

    outcome = reply(pieces)

    assert outcome.image is not None
    assert (outcome.image.file, [draft.file for draft in outcome.drafts]) == ("part.1", ["part.0"])
    assert (outcome.text, outcome.finish_reason, outcome.response_id) == (
        "Here it is.",
        "STOP",
        "r",
    )
    assert outcome.usage is not None
    assert (outcome.usage.total_tokens, outcome.usage.prompt_tokens) == (9, None)


@pytest.mark.parametrize("last", [{}, {"candidates": []}, {"candidates": [{"index": 0}]}])
def test_pieces_without_an_end_are_no_result(last: dict[str, Any]) -> None:
    """A stream that breaks off before its image is not an answer without one."""
    outcome = parsed([candidate({"text": "Here"}, finish=""), last])

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.message) == (
        FailureKind.MALFORMED,
        "the answer ends without a finishReason",
    )


def test_candidates_are_joined_by_their_index() -> None:
    """Parts of the second candidate stay behind those of the first one."""
    pieces = [
        {"candidates": [{"index": 1, "content": {"parts": [inline(1)]}}]},
        {
            "candidates": [
                {"index": 1, "content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}
            ]
        },
        {"candidates": [{"index": 0, "content": {"parts": [inline(0)]}, "finishReason": "OTHER"}]},
    ]

    assert [draft.file for draft in reply(pieces).drafts] == ["part.1"]


# --- images in other places ---


def text_image(mark: str, after: str = ")") -> dict[str, Any]:
    """Return a part with a text whose image was taken out."""
    return {"text": f"![a](data:image/png;base64,{mark}{after} b"}


IN_TEXTS: dict[str, tuple[list[Any], int | None, list[int]]] = {
    "alone": ([text_image("#0")], 0, []),
    "two": ([text_image("#0"), text_image("#1")], 1, [0]),
    "two of one text": ([{"text": text_image("#0")["text"] + text_image("#1")["text"]}], 1, [0]),
    "behind a plain one": ([inline(0), text_image("#1")], 0, [1]),
    "behind a plain draft": ([inline(0, thought=True), text_image("#1")], 1, [0]),
    "as a thought": ([text_image("#1") | {"thought": True}, text_image("#0")], 0, [1]),
    "as a file": ([{"fileData": {"fileUri": "data:image/png;base64,#0"}}], 0, []),
    "at the end": ([{"text": "data:image/png;base64,#0"}], 0, []),
    "with other spellings": ([{"text": '<img src="DATA:image/PNG;x=y;BASE64,#0">'}], 0, []),
}


@pytest.mark.parametrize("name", IN_TEXTS)
def test_images_in_texts_are_images(name: str) -> None:
    """A data URI is an image; the result only if there is no other one that is no thought."""
    parts, result, drafts = IN_TEXTS[name]

    outcome = reply(candidate(*parts))

    assert outcome.image is not None
    assert (outcome.image.file, outcome.remote) == (f"part.{result}", ())
    assert [draft.file for draft in outcome.drafts] == [f"part.{number}" for number in drafts]
    assert "base64" not in (outcome.text or "")


UNREAD: dict[str, tuple[Any, str]] = {
    "damaged in a text": (candidate(text_image("#0!")), "candidates[0].content.parts[0].text"),
    "shortened in a text": (
        candidate(text_image("#0", "… and so on, as this text goes")),
        "parts[0].text",
    ),
    "in an unknown field": (candidate({"image": {"bytes": PIXEL}}), "parts[0].image.bytes"),
    "in a known field": (candidate({"inlineData": PIXEL}), "parts[0].inlineData"),
    "in a tool's answer": (
        candidate({"functionResponse": {"parts": [{"inlineData": {"data": PIXEL}}]}}),
        "functionResponse.parts[0].inlineData.data",
    ),
    "as numbers": (candidate({"inlineData": {"data": RAW}}), "parts[0].inlineData.data"),
    "as a buffer of Node": (
        candidate({"inlineData": {"data": {"type": "Buffer", "data": RAW}}}),
        "parts[0].inlineData.data.data",
    ),
    "as a Uint8Array": (
        candidate({"inlineData": {"data": {str(at): byte for at, byte in enumerate(RAW)}}}),
        "parts[0].inlineData.data",
    ),
    "left out": (candidate({"image": {"bytes": "#123456 bytes"}}), "and much unknown content"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_an_answer_that_may_hold_an_image_is_not_empty(name: str) -> None:
    """An image where none is expected makes a failure, which is kept, and not a final row."""
    body, says = UNREAD[name]

    outcome = parsed(body, (image(0),))

    assert isinstance(outcome, Failure)
    assert (outcome.kind, outcome.may_be_billed) == (FailureKind.MALFORMED, True)
    assert says in outcome.message


@pytest.mark.parametrize(
    "body",
    [
        candidate({"text": "/9j/ is how a JPEG begins"}),
        candidate({"image": {"bytes": PIXEL}}, finish="IMAGE_SAFETY"),
        candidate(text_image("#3")),
    ],
)
def test_an_answer_without_an_image_stays_a_result(body: Any) -> None:
    """An example in a text, or a field next to a reason, does not make an answer a failure."""
    outcome = parsed(body, (*IMAGES[:3], IncomingImage("part.3", 9, "", b"an example")))

    assert isinstance(outcome, Reply) or "#3" in str(body)
    assert not isinstance(outcome, Reply) or outcome.block_reason in {EMPTY, None}


@pytest.mark.parametrize("is_snake", [True, False])
def test_null_in_the_other_spelling_hides_nothing(is_snake: bool) -> None:  # noqa: FBT001
    """A field that is written twice, once as null, has the value of the other."""
    names = ("inlineData", "inline_data", "mimeType", "mime_type", "fileData", "file_data")
    nulls = dict.fromkeys(names)
    here, mime_type = ("inline_data", "mime_type") if is_snake else ("inlineData", "mimeType")
    body = candidate(nulls | {here: nulls | {mime_type: "image/webp", "data": "#0"}})
    body |= {"usageMetadata": None, "usage_metadata": {"prompt_token_count": 5}}

    outcome = reply(body)

    assert outcome.image is not None
    assert outcome.image.mime_type == "image/webp"
    assert outcome.usage is not None
    assert outcome.usage.prompt_tokens == 5


def test_the_proto_names_are_read() -> None:
    """A whole answer in snake case is read like one in camel case."""
    body = {
        "candidates": [
            {
                "content": {"parts": [{"inline_data": {"mime_type": "image/webp", "data": "#0"}}]},
                "finish_reason": "STOP",
                "finish_message": "done",
                "safety_ratings": [{"category": "X"}],
            }
        ],
        "usage_metadata": {
            "prompt_token_count": 5,
            "candidates_tokens_details": [{"modality": "IMAGE", "token_count": 7}],
        },
        "model_version": "m",
        "response_id": "r",
    }

    outcome = reply(body)

    assert outcome.image is not None
    assert outcome.image.mime_type == "image/webp"
    assert (outcome.finish_reason, outcome.finish_message) == ("STOP", "done")
    assert (outcome.safety_ratings, outcome.model_version) == ([{"category": "X"}], "m")
    assert outcome.usage is not None
    assert (outcome.usage.prompt_tokens, outcome.usage.by_modality) == (
        5,
        {"candidates": {"IMAGE": 7}},
    )
    feedback = {"prompt_feedback": {"block_reason": "SAFETY"}}
    assert (reply(feedback).block_reason, reply(feedback).response_id) == ("SAFETY", None)
