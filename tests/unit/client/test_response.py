"""Successful answers: what a reply takes from them."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gemini_batch.client import untrusted_json
from gemini_batch.client.response import EMPTY, parse_answer
from gemini_batch.records import (
    Answer,
    Failure,
    FailureKind,
    IncomingImage,
    RemoteImage,
    Reply,
    Usage,
)
from tests.unit.client.responses import IMAGES, candidate, image, inline, reply, written

# --- a 200 with an image ---


def test_a_whole_answer_is_understood() -> None:
    """Every field of an answer becomes a field of the reply."""
    body = {
        **candidate({"text": "Here "}, inline(0, thoughtSignature="c2ln"), {"text": "it is."}),
        "usageMetadata": {
            "promptTokenCount": 16,
            "candidatesTokenCount": 1296,
            "thoughtsTokenCount": 180,
            "totalTokenCount": 1492,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 16}],
            "candidatesTokensDetails": [
                {"modality": "IMAGE", "tokenCount": 1000},
                {"modality": "TEXT", "tokenCount": 6},
                {"modality": "IMAGE", "tokenCount": 290},
            ],
            "serviceTier": "standard",
        },
        "modelVersion": "gemini-3-pro-image-preview-11",
        "responseId": "abc",
    }
    body["candidates"][0] |= {
        "safetyRatings": [{"category": "X", "probability": "LOW"}],
        "finishMessage": "done",
    }

    expected = Reply(
        image=IncomingImage("part.0", 10, "0" * 64, b"\xff\xd8\xff", "image/jpeg"),
        drafts=(),
        text="Here it is.",
        finish_reason="STOP",
        finish_message="done",
        block_reason=None,
        safety_ratings=[{"category": "X", "probability": "LOW"}],
        usage=Usage(
            16, 1296, 180, 1492, {"prompt": {"TEXT": 16}, "candidates": {"IMAGE": 1290, "TEXT": 6}}
        ),
        model_version="gemini-3-pro-image-preview-11",
        response_id="abc",
        service_tier="standard",
    )
    assert expected == reply(body)


TWO_CANDIDATES = {
    "candidates": [candidate(inline(0))["candidates"][0], candidate(inline(1))["candidates"][0]]
}
SEVERAL = {
    "one": (candidate(inline(0)), 0, []),
    "plain drafts before it": (candidate(inline(0), inline(1), inline(2)), 2, [0, 1]),
    "thoughts before it": (candidate(inline(0, thought=True), inline(1)), 1, [0]),
    "a thought after it": (candidate(inline(0), inline(1, thought=True)), 0, [1]),
    "no thought at all": (candidate(inline(0, thought=False), inline(1, thought="true")), 1, [0]),
    "thoughts only": (candidate(inline(0, thought=True)), None, [0]),
    "of several candidates": (TWO_CANDIDATES, 1, [0]),
    "equal keys: one was overruled": (candidate(inline(2)), 2, []),
    "named twice": (candidate(inline(0), inline(0)), 0, []),
    "not in the order of arrival": (candidate(inline(1), inline(0)), 0, [1]),
    "after a part of null": (candidate(None, 7, inline(0)), 0, []),
    "with another reason": (candidate(inline(0), finish="MAX_TOKENS"), 0, []),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_the_result_is_the_last_image_that_is_no_thought(name: str) -> None:
    """The result is the last image whose part is not a thought; the others are drafts."""
    body, expected, drafts = SEVERAL[name]

    outcome = reply(body)

    assert (None if expected is None else f"part.{expected}") == (
        outcome.image.file if outcome.image else None
    )
    assert [f"part.{number}" for number in drafts] == [draft.file for draft in outcome.drafts]


def test_thoughts_are_not_the_text() -> None:
    """The text is that of all parts except thoughts; None if there is none."""
    outcome = reply(
        candidate(
            {"text": "hm", "thought": True}, {"text": "a"}, {"text": 7}, {"text": ""}, {"text": "b"}
        )
    )

    assert outcome.text == "ab"
    assert reply(candidate({"text": "hm", "thought": True}, inline(0))).text is None


# --- images elsewhere ---

FILE = {"fileUri": "https://a.test/1.png?sig=x%2F", "mimeType": "image/png"}
ELSEWHERE: dict[str, tuple[list[Any], list[RemoteImage]]] = {
    "a file": ([{"fileData": FILE}], [RemoteImage(FILE["fileUri"], "image/png", False)]),
    "in the names of proto": (
        [{"file_data": {"file_uri": "gs://b/1.png", "mime_type": "image/png"}, "thought": True}],
        [RemoteImage("gs://b/1.png", "image/png", True)],
    ),
    "several in order, one named twice": (
        [{"fileData": {"fileUri": name}} for name in ("b:1", "b:0", "b:1")],
        [RemoteImage("b:1", "", False), RemoteImage("b:0", "", False)],
    ),
    "a link in a text": (
        [{"text": "Here: ![a *robot*]( <HTTP://a.test/1.png> 'Robot'), [not](https://a.test/2)"}],
        [RemoteImage("HTTP://a.test/1.png", "", False)],
    ),
    "links in a text": (
        [{"text": "![](https://a.test/1.png)\n![b](http://a.test/2?x=y 'B') https://a.test/3"}],
        [
            RemoteImage("https://a.test/1.png", "", False),
            RemoteImage("http://a.test/2?x=y", "", False),
        ],
    ),
    "a link next to an image": ([{"text": "![](https://a.test/1.png)"}, inline(0)], []),
    "a link next to a draft": (
        [{"text": "![](https://a.test/1.png)"}, inline(0, thought=True)],
        [],
    ),
    "no text": ([{"fileData": {"fileUri": 7}}, {"fileData": []}, {"fileData": {}}], []),
    "no end": ([{"fileData": {"fileUri": "x" * 8193}}], []),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_image_elsewhere_is_named(name: str) -> None:
    """Images that an answer only names are in the reply, with what it says of them."""
    parts, expected = ELSEWHERE[name]

    assert tuple(expected) == reply(candidate(*parts)).remote


@pytest.mark.parametrize(
    ("part", "block_reason"),
    [({"fileData": FILE}, None), ({"fileData": FILE, "thought": True}, EMPTY)],
)
def test_an_answer_with_an_image_elsewhere_is_not_empty(
    part: dict[str, Any], block_reason: str | None
) -> None:
    """An image that has to be fetched is no missing one, unless it is only a draft."""
    outcome = reply(candidate(part))

    assert (outcome.image, outcome.block_reason) == (None, block_reason)
    assert len(outcome.remote) == 1


def test_the_images_elsewhere_are_bounded() -> None:
    """No answer makes a client fetch more than 64 images."""
    parts = [{"fileData": {"fileUri": f"https://a.test/{number}"}} for number in range(100)]

    assert len(reply(candidate(*parts)).remote) == 64


# --- a 200 without one ---

NO_IMAGE: dict[str, tuple[Any, str | None, str | None]] = {
    "candidates absent": ({"usageMetadata": {}}, None, EMPTY),
    "candidates empty": ({"candidates": []}, None, EMPTY),
    "an empty candidate": ({"candidates": [{}]}, None, EMPTY),
    "blocked prompt": (
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
        None,
        "PROHIBITED_CONTENT",
    ),
    "an unknown block reason": (
        {"promptFeedback": {"blockReason": "BRAND_NEW"}},
        None,
        "BRAND_NEW",
    ),
    "content absent": ({"candidates": [{"finishReason": "SAFETY"}]}, "SAFETY", None),
    "content absent, STOP": ({"candidates": [{"finishReason": "STOP"}]}, "STOP", EMPTY),
    "content empty": (
        {"candidates": [{"content": {}, "finishReason": "NO_IMAGE"}]},
        "NO_IMAGE",
        None,
    ),
    "parts null": (
        {"candidates": [{"content": {"parts": None}, "finishReason": "IMAGE_SAFETY"}]},
        "IMAGE_SAFETY",
        None,
    ),
    "no part, STOP": (candidate(), "STOP", EMPTY),
    "refusal text, STOP": (candidate({"text": "I can't draw that."}), "STOP", EMPTY),
    "prohibited": (candidate(finish="PROHIBITED_CONTENT"), "PROHIBITED_CONTENT", None),
    "an unknown reason": (candidate(finish="ESCALATED_TO_MARS"), "ESCALATED_TO_MARS", None),
    "a reason by its number": ({"candidates": [{"finishReason": 23}]}, "23", None),
    "an unspecified reason": (
        candidate(finish="FINISH_REASON_UNSPECIFIED"),
        "FINISH_REASON_UNSPECIFIED",
        EMPTY,
    ),
    "no reason": ({"candidates": [{"content": {"parts": []}}]}, None, EMPTY),
    "a reason of a wrong type": ({"candidates": [{"finishReason": ["STOP"]}]}, None, EMPTY),
    "data without bytes": (candidate(inline(3)), "STOP", EMPTY),
    "data that never came": (candidate(inline(9)), "STOP", EMPTY),
    "a mark that is none": (
        candidate({"inlineData": {"data": "#x"}}, {"inlineData": {"data": "#-1"}}),
        "STOP",
        EMPTY,
    ),
    "data of a wrong type": (
        candidate({"inlineData": {"data": 0}}, {"inlineData": "#0"}),
        "STOP",
        EMPTY,
    ),
    "only a thought's image": (candidate(inline(0, thought=True)), "STOP", EMPTY),
}


@pytest.mark.parametrize("name", NO_IMAGE)
def test_a_200_without_an_image_is_a_result(name: str) -> None:
    """Each known 200 without an image is a reply with a reason, `EMPTY` if the server gives none."""
    body, finish_reason, block_reason = NO_IMAGE[name]

    outcome = reply(body, (*IMAGES[:3], image(3, size_bytes=0)))

    assert outcome.image is None
    assert (finish_reason, block_reason) == (outcome.finish_reason, outcome.block_reason)


def test_a_block_keeps_its_explanation() -> None:
    """`finishMessage` and safety ratings are kept; the prompt's without a candidate."""
    rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH"}
    candidates = [
        {
            "finishReason": "IMAGE_SAFETY",
            "finishMessage": "Unable to show …",
            "safetyRatings": [rating],
        }
    ]

    by_candidate = reply({"candidates": candidates})
    by_prompt = reply({"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": [rating]}})

    assert ("Unable to show …", [rating]) == (
        by_candidate.finish_message,
        by_candidate.safety_ratings,
    )
    assert [rating] == by_prompt.safety_ratings


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ([], None),
        ({}, Usage()),
        ({"promptTokenCount": 0}, Usage(prompt_tokens=0)),
        ({"promptTokenCount": "16", "totalTokenCount": True, "thoughtsTokenCount": 1.5}, Usage()),
        (
            {"promptTokenCount": -1, "candidatesTokenCount": 2**31, "totalTokenCount": 2**80},
            Usage(),
        ),
        ({"promptTokenCount": 2**31 - 1}, Usage(prompt_tokens=2**31 - 1)),
        (
            {
                "promptTokensDetails": [
                    None,
                    {},
                    {"modality": 1, "tokenCount": 1},
                    {"modality": "TEXT"},
                ]
            },
            Usage(),
        ),
        (
            {"candidatesTokensDetails": [{"modality": "HOLOGRAM", "tokenCount": 3}]},
            Usage(by_modality={"candidates": {"HOLOGRAM": 3}}),
        ),
    ],
)
def test_usage_of_any_shape(usage: Any, expected: Usage | None) -> None:
    """A missing or impossible count is None; an unknown modality is data."""
    assert expected == reply(candidate(inline(0)) | {"usageMetadata": usage}).usage


# --- bytes that are hard to read ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (rb'"\ud83d alone"', "� alone"),
        (rb'"\udc00\ud800"', "��"),
        (rb'"\ud83c\udfa8"', "🎨"),
        (b'"\xff\xfe invalid"', "�� invalid"),
        (b'"a\ttab"', "a\ttab"),
        (b'"\xed\xa0\x80"', "���"),
    ],
)
def test_text_that_is_not_unicode_costs_no_answer(text: bytes, expected: str) -> None:
    """Lone surrogates, invalid UTF-8 and control characters lose no image and can be written."""
    parts = b'[{"text":%b},{"inlineData":{"data":"#0"}}]' % text
    body = b'{"candidates":[{"content":{"parts":%b},"safetyRatings":[{%b:%b}]}]}' % (
        parts,
        text,
        text,
    )

    outcome = reply(body)

    assert outcome.image is not None
    assert expected == outcome.text
    assert written(outcome)


@pytest.mark.parametrize(
    "number",
    [b"9" * 5_000, b"1e999", b"-1e999", b"18446744073709551616", b"-9223372036854775809", b"NaN"],
)
def test_a_number_without_measure_costs_no_answer(number: bytes) -> None:
    """A number that no parser can hold loses no image, and the reply can be written."""
    body = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"}}]},"safetyRatings":[%b],"finishReason":%b}]}'

    outcome = reply(body % (number, number))

    assert outcome.image is not None
    assert written(outcome)


def test_the_deepest_answer_that_the_transport_lets_through_can_be_written() -> None:
    """Ratings as deep as an answer may be, 200 levels, can be written."""
    ratings = b"[" * 197 + b"]" * 197

    outcome = reply(b'{"candidates":[{"safetyRatings":%b}]}' % ratings)

    assert written(outcome)


@pytest.mark.parametrize("body", [b"", b" ", b"{", b'{"a":1}{', b"<html>", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    """A 200 that is not JSON is a failure that may have been billed."""
    expected = Failure(FailureKind.MALFORMED, "the answer is not valid JSON", may_be_billed=True)

    assert expected == parse_answer(Answer(200, body))


@pytest.mark.parametrize(
    "many",
    [
        b'{"candidates":[{"content":{"parts":[%b{}]}}]}' % (b'{"a":1},' * 150_000),
        b'{"candidates":[{"content":{"parts":[%b{}]}}],"x":NaN}' % (b'{"text":""},' * 150_000),
        b"[%b{}]" % (b'{"candidates":[{}]},' * 75_000),
    ],
)
def test_what_is_looked_at_in_python_is_bounded(many: bytes) -> None:
    """An answer of very many objects is not looked through, for the event loop would stand still."""
    assert parse_answer(Answer(200, many)) == Failure(
        FailureKind.TOO_LARGE, "the answer has more than 150,000 objects", may_be_billed=True
    )


def test_an_answer_that_orjson_refuses_is_read_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """No function of Python runs for each value, unless a small body needs it."""
    called: list[Any] = []
    monkeypatch.setattr(untrusted_json, "_int", called.append)
    monkeypatch.setattr(untrusted_json, "_writable", called.append)
    numbers = b"1," * 600_000
    body = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"#0"}}]}}],"x":[%bNaN%b]}'

    assert reply(body % (numbers, b""), IMAGES[:1]).image is not None
    for slow in (b",99999999999999999999", b',"\\ud800"'):
        assert reply(body % (numbers, slow), IMAGES[:1]).is_cut  # read up to its picture
    assert not called


def test_a_row_is_bounded() -> None:
    """Texts of impossible length are cut, impossible ratings are dropped; the image stays."""
    long = "x" * 2_000_000
    many: list[Any] = [[]] * 50_000
    candidate = {
        "content": {"parts": [{"text": long}, {"inlineData": {"data": "#0"}}]},
        "finishReason": long,
        "finishMessage": long,
        "safetyRatings": many,
    }
    usage = {
        "promptTokensDetails": [
            {"modality": f"{number}{long[:9000]}", "tokenCount": 1} for number in range(500)
        ]
    }
    body = {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": long,
        "responseId": long,
    }
    reply = parse_answer(Answer(200, orjson.dumps(body), (IncomingImage("part", 7, "", b""),)))
    refusal = parse_answer(
        Answer(400, orjson.dumps({"error": {"message": long, "status": long, "details": many}}))
    )

    assert isinstance(reply, Reply)
    assert reply.image
    assert reply.text == "x" * 999_999 + "…"
    assert len(repr(replace(reply, text=None))) < 100_000
    assert len(repr(refusal)) < 10_000


def test_a_failure_stays_what_it_is() -> None:
    """A failure is returned unchanged."""
    failure = Failure(FailureKind.TIMEOUT, "late", may_be_billed=True)

    assert failure is parse_answer(failure)
