"""Answers that write a field twice: what was paid for is kept, whichever of them is empty."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemini_batch.client.response import parse_answer
from gemini_batch.client.untrusted_json import field, load_joined
from gemini_batch.records import Answer, Failure, RemoteImage, Reply
from tests.dresses import DRESSES, png
from tests.unit.client.extracting import b64
from tests.unit.client.responses import IMAGES, candidate, inline, reply
from tests.unit.client.test_receiver import pictures

PART = '{"inlineData":{"mimeType":"image/png","data":"#0"}}'
CANDIDATE = '{"content":{"parts":[' + PART + ']},"finishReason":"STOP"}'
ALONE = '{"candidates":[' + CANDIDATE + "]}"
ANSWER = ALONE[:-1] + ',"usageMetadata":{"totalTokenCount":9}}'

TWICE = {
    "candidates of null": ANSWER[:-1] + ',"candidates":null}',
    "candidates of null, and no usage": ALONE[:-1] + ',"candidates":null}',
    "no candidates": ANSWER[:-1] + ',"candidates":[]}',
    "candidates that are a text": ANSWER[:-1] + ',"candidates":""}',
    "null first": '{"candidates":null,' + ANSWER[1:],
    "candidates without content": ANSWER[:-1] + ',"candidates":[{"finishReason":"STOP"}]}',
    "content of null": ANSWER.replace('},"finishReason"', '},"content":null,"finishReason"'),
    "content without parts": ANSWER.replace(
        '},"finishReason"', '},"content":{"role":"model"},"finishReason"'
    ),
    "content without parts, and in an escape": ANSWER.replace(
        '},"finishReason"', '},"\\u0063ontent":{"parts":[]},"finishReason"'
    ),
    "parts of null": ANSWER.replace("}}]}", '}}],"parts":null}'),
    "parts of text": ANSWER.replace("}}]}", '}}],"parts":[{"text":"done"}]}'),
    "inlineData of null": ANSWER.replace('"#0"}}', '"#0"},"inlineData":null}'),
    "an empty inlineData": ANSWER.replace('"#0"}}', '"#0"},"inlineData":{}}'),
    "inlineData without data": ANSWER.replace(
        '"#0"}}', '"#0"},"inlineData":{"mimeType":"image/png"}}'
    ),
    "data of null": ANSWER.replace('"#0"', '"#0","data":null'),
    "data of an array, first": ANSWER.replace('"data"', '"data":[],"data"'),
    "parts of an object, first": ANSWER.replace('"parts"', '"parts":{},"parts"'),
    "empty data": ANSWER.replace('"#0"', '"#0","data":""'),
    "an empty field in the other spelling": ANSWER.replace('"#0"}}', '"#0"},"inline_data":{}}'),
    "an empty field in the usual spelling": ANSWER.replace(
        '"inlineData"', '"inlineData":{"mimeType":"image/png","data":""},"inline_data"'
    ),
    "a lone surrogate next to it": ANSWER[:-1] + ',"x":"\\ud800","candidates":null}',
}


@pytest.mark.parametrize("name", TWICE)
def test_an_image_is_kept_when_its_field_is_written_twice(name: str) -> None:
    """An image that arrived is the result, though an equal key without it comes later."""
    outcome = reply(TWICE[name].encode(), IMAGES[:1])
    assert outcome.image is not None
    assert outcome.image.file == "part.0"
    assert not outcome.drafts


def test_the_fields_around_it_are_united() -> None:
    """Reason, usage and text come from whichever of the equal fields has them."""
    body = TWICE["parts of text"].replace('"usageMetadata"', '"candidates":null,"usageMetadata"')
    outcome = reply(body.encode(), IMAGES[:1])
    assert outcome.text == "done"
    assert outcome.finish_reason == "STOP"
    assert outcome.usage is not None
    assert outcome.usage.total_tokens == 9


def test_of_two_images_the_last_one_is_the_result() -> None:
    """Two images under equal keys are a draft and the result; none is dropped."""
    for one, two in (
        ('"data":"#0"', '"data":"#0","data":"#1"'),
        (PART, f"{PART[:-1]},{PART[1:].replace('#0', '#1')}"),
        (f"[{CANDIDATE}]", f'[{CANDIDATE}],"candidates":[{CANDIDATE.replace("#0", "#1")}]'),
    ):
        outcome = reply(ANSWER.replace(one, two).encode(), IMAGES[:2])
        assert outcome.image is not None
        assert outcome.image.file == "part.1"
        assert [draft.file for draft in outcome.drafts] == ["part.0"]


def test_one_image_in_both_spellings_is_one_image() -> None:
    """Gateways write `inlineData` and `inline_data`: the same bytes are no draft."""
    both = inline(0) | {"inline_data": {"mime_type": "image/jpeg", "data": "#1"}}
    same = (IMAGES[0], IMAGES[0])
    assert not reply(candidate(both), same).drafts
    assert [draft.file for draft in reply(candidate(both), IMAGES[:2]).drafts] == ["part.1"]


def test_an_image_by_its_uri_is_kept_as_well() -> None:
    """The URI of an image is found behind an equal key of null, and in either spelling."""
    of_file: dict[str, Any] = {"fileUri": "https://a.test/1.png"}
    body = '{"candidates":[{"content":{"parts":[{"fileData":%s}]}}],"candidates":null}'
    remote = (RemoteImage("https://a.test/1.png", "", False),)
    assert reply((body % '{"fileUri":"https://a.test/1.png"}').encode()).remote == remote
    assert reply(candidate({"fileData": {}, "file_data": of_file})).remote == remote


def test_a_text_with_an_image_is_not_overruled() -> None:
    """Equal keys of text are joined, so that an image within one of them stays."""
    part = '{"text":"![](data:image/png;base64,#0)","text":"%s"}'
    body = '{"candidates":[{"content":{"parts":[%s]},"finishReason":"STOP"}]}'
    for later in ("", "Enjoy!"):
        outcome = reply((body % part % later).encode(), IMAGES[:1])
        assert outcome.image is not None


def test_a_whole_body_with_equal_keys() -> None:
    """From the bytes of a body on: what arrived is found again, in chunks of any size."""
    image = png(5)
    body = TWICE["candidates of null, and no usage"].encode().replace(b"#0", b64(image))
    for size in (1, 7, 1000):
        assert pictures(body, [size]) == [image]


def test_an_answer_without_equal_keys_is_read_as_before() -> None:
    """No key is equal: there is nothing to join, and an empty answer stays what it is."""
    assert load_joined(ANSWER.encode()) is None
    assert load_joined(b"no JSON") is None
    assert reply(candidate({"text": "no"}), ()).block_reason == "EMPTY"
    twice = parse_answer(Answer(200, b'{"x":1,"x":null}', ()))
    assert isinstance(twice, Failure)


def test_a_field_in_two_spellings() -> None:
    """Of a field's two spellings the one that holds something counts, false and 0 included."""
    assert field({"aB": 0, "a_b": 1}, "aB") == 0
    assert field({"aB": False, "a_b": True}, "aB") is False
    assert field({"aB": "", "a_b": "x"}, "aB") == "x"
    assert field({"aB": [], "a_b": None}, "aB") == []
    assert field({"a_b": []}, "aB") == []


def test_json_is_joined_by_the_kinds_of_values() -> None:
    """Objects are united, arrays concatenated, and a value never replaces an object or array."""
    joined = load_joined(b'{"a":{"b":1,"c":[1]},"a":{"b":2,"c":[2]},"d":[1],"d":"x","e":1,"e":2}')
    assert joined == {"a": {"b": 2, "c": [1, 2]}, "d": [1], "e": 2}
    assert isinstance(reply(ANSWER.encode(), IMAGES[:1]), Reply)


def _littered(value: Any, rng: random.Random) -> str:
    """Return the JSON of a value with empty ones before and after those that count."""
    if isinstance(value, dict):
        members: list[str] = []
        for name, item in value.items():
            empty = [f"{json.dumps(name)}:{rng.choice(NOTHING)}"]
            own = [f"{json.dumps(name)}:{_littered(item, rng)}"]
            members += rng.choice([own, own, own, empty + own, own + empty, [*own, '"x":null']])
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        items = [_littered(item, rng) for item in value]
        return "[" + ",".join(rng.choice([[], [], ["null"], ["{}"]]) + items) + "]"
    return json.dumps(value)


NOTHING = ("null", "{}", "[]", '""')


@given(st.integers(0, 2**32), st.sampled_from(["plain", "snake case", "a bare URI", "Markdown"]))
@settings(max_examples=60, deadline=None)
def test_no_empty_field_hides_a_picture(seed: int, dress: str) -> None:
    """Wherever an answer has a field twice and once empty, or an empty item, the picture is found."""
    rng, picture = random.Random(seed), png(seed)
    parts = [{"text": "Here"}, DRESSES[dress](picture)]
    document = {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}],
        "usageMetadata": {"totalTokenCount": 9},
    }
    body = _littered(document, rng).encode()
    assert pictures(body, [rng.choice([1, 30, 1000])]) == [picture]
