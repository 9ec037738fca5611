"""Answers that break off behind a picture, or are damaged there: the picture was paid for."""

import base64
import gzip
import io
import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from PIL import Image

from gemini_batch.client.cut_json import completed
from gemini_batch.client.image_ends import ends_whole
from gemini_batch.client.malformed import MalformedAnswerError
from gemini_batch.client.receiver import Receiver
from gemini_batch.client.response import parse_answer
from gemini_batch.records import Answer, Failure, Reply
from tests.unit.client.extracting import chunked
from tests.unit.client.test_receiver import Received, receive

pytestmark = pytest.mark.slow

USAGE = {"promptTokenCount": 7, "candidatesTokenCount": 1290, "totalTokenCount": 1297}


def picture(form: str = "PNG") -> bytes:
    """Return a picture of a format."""
    file = io.BytesIO()
    pixels = random.Random(1).randbytes(40 * 40 * 3)
    Image.frombytes("RGB", (40, 40), pixels).save(file, form)
    return file.getvalue()


PNG = picture()


def part(image: bytes = PNG, **more: Any) -> dict[str, Any]:
    """Return the part of a picture, in the order of the API: a thought says so behind it."""
    blob = {"mimeType": "image/png", "data": base64.b64encode(image).decode()}
    return {"inlineData": blob} | more


def answer(*parts: dict[str, Any]) -> bytes:
    """Return an answer with these parts, as it is written by the API."""
    candidate = {"content": {"parts": parts or [part()], "role": "model"}, "finishReason": "STOP"}
    document = {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "m"}
    return json.dumps(document, indent=2).encode()


def outcome(
    body: bytes, sizes: Iterable[int] = (1000,), encoding: str = ""
) -> tuple[Any, Received]:
    """Return what a body means that ends here, as a transport reads it."""
    receiver, sink = receive(body, sizes, encoding)
    try:
        envelope = receiver.finish()
    except MalformedAnswerError:
        return None, sink
    return parse_answer(Answer(200, envelope, sink.arrived())), sink


def kept(body: bytes, sizes: Iterable[int] = (1000,), encoding: str = "") -> tuple[Reply, bytes]:
    """Return the reply of a body, and its picture."""
    reply, sink = outcome(body, sizes, encoding)
    assert isinstance(reply, Reply), reply
    assert reply.image is not None
    return reply, sink[int(reply.image.file)].getvalue_or_image()


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_an_answer_that_is_cut_anywhere_behind_its_picture_has_it(size: int) -> None:
    """From the quote behind the base64 on, each cut leaves the picture; the usage is whole or unknown."""
    body = answer()
    quote = body.index(base64.b64encode(PNG)) + len(base64.b64encode(PNG))
    for stop in range(quote + 1, len(body.rstrip()), 1 if size == 100_000 else 13):
        reply, image = kept(body[:stop], [size])
        assert (image, reply.is_cut) == (PNG, True), stop
        assert reply.usage is None or reply.usage.total_tokens == USAGE["totalTokenCount"]
    assert kept(body)[0].is_cut is False
    assert kept(body[:-2])[0].usage is not None
    assert kept(body[: quote + 1])[0].finish_reason is None


def test_an_answer_that_is_cut_within_its_picture_has_none() -> None:
    """Half a picture gives no image."""
    body = answer()
    start = body.index(base64.b64encode(PNG))
    for stop in range(start, start + len(base64.b64encode(PNG)) - 4, 97):
        assert outcome(body[:stop])[0] is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_picture_without_its_quote_is_whole_if_its_format_says_so(form: str) -> None:
    """The end of a PNG, JPEG or WebP shows that nothing of it is missing; a byte less is not enough."""
    image = picture(form)
    body = answer(part(image))
    stop = body.index(base64.b64encode(image)) + len(base64.b64encode(image))
    assert kept(body[:stop])[1] == image
    assert outcome(body[: stop - 4])[0] is None
    assert ends_whole([image])
    assert not ends_whole([image[:-3]])


def test_the_preview_within_a_jpeg_is_not_its_end() -> None:
    """A JPEG that breaks off behind the end of its preview is not whole."""
    preview = picture("JPEG")
    length = (len(preview) + 2).to_bytes(2, "big")
    assert not ends_whole([b"\xff\xd8\xff\xe1" + length + preview])
    assert not ends_whole([b"GIF89a;"])
    assert not ends_whole([])


@pytest.mark.parametrize(
    "parts",
    [
        [{"text": "Let me think.", "thought": True}, part(thought=True)],
        [part(thought=True), part(PNG, thought=True)],
        [{"thought": True, **part()}],
    ],
)
def test_a_draft_is_not_taken_for_the_picture(parts: list[dict[str, Any]]) -> None:
    """In an answer with thoughts, an image whose part is not closed may be a thought, too."""
    body = answer(*parts)
    stop = body.rindex(base64.b64encode(PNG)[-40:]) + 41
    assert outcome(body[:stop])[0] is None


def test_drafts_before_a_picture_are_kept_with_it() -> None:
    """Once the part of the picture is closed it is the picture, and the drafts before it are drafts."""
    body = answer({"text": "?", "thought": True}, part(thought=True), part(picture("JPEG")))
    stop = body.rindex(b"]", 0, body.index(b'"role"'))
    reply, image = kept(body[:stop])
    assert (image, len(reply.drafts), reply.is_cut) == (picture("JPEG"), 1, True)


def test_a_picture_in_a_text_is_kept() -> None:
    """A data URI that has ended is whole, also if its text has not; one that breaks off is none."""
    uri = f"![a](data:image/png;base64,{base64.b64encode(PNG).decode()}) here"
    body = answer({"text": uri})
    assert kept(body[: body.index(b") here") + 3])[1] == PNG
    assert outcome(body[: body.index(b") here") - 9])[0] is None


def test_a_stream_that_is_cut_has_its_picture() -> None:
    """An event that breaks off behind the picture, and one behind the picture's, lose nothing."""
    first = json.dumps({"candidates": [{"content": {"parts": [part()]}}]}).encode()
    last = json.dumps({"candidates": [{"finishReason": "STOP"}], "usageMetadata": USAGE}).encode()
    for body in (b"data: " + first[:-4], b"data: " + first + b"\n\ndata: " + last[:-9]):
        assert kept(body)[1] == PNG
    assert kept(b"[" + first + b",\n" + last[:-9])[1] == PNG
    assert kept(b"[" + first)[1] == PNG


def test_a_compressed_answer_that_is_cut_has_its_picture() -> None:
    """Data that was decompressed before the compression broke off counts."""
    noise = [{"text": random.Random(2).randbytes(3000).hex()}]
    body = gzip.compress(answer(part(), *noise))
    assert kept(body[:-900], encoding="gzip")[1] == PNG


@pytest.mark.parametrize(
    "tail",
    [
        b']}}]}, "usageMetadata": {"promptTokenCount": }}',
        b'}]}, "finishReason": STOP}]}',
        b'}], "role": "model"}}]}]}',
        b'}, {"text": "\\x"}]}}]}',
        b"\x00\x00\x00",
        b"<html>502 Bad Gateway</html>",
        b'}]}, "finishReason": "STOP"}], "usage": {,}}',
    ],
)
def test_an_answer_that_is_damaged_behind_its_picture_has_it(tail: bytes) -> None:
    """Damage behind a picture does not lose the picture."""
    body = answer()
    stop = body.index(base64.b64encode(PNG)) + len(base64.b64encode(PNG)) + 1
    assert kept(body[:stop] + b"}" + tail)[1] == PNG


def test_a_second_picture_that_is_damaged_leaves_nothing_unsaid() -> None:
    """The damaged one may have been the picture: the answer can't be read, and is kept as it came."""
    body = answer(part(), part(b"x" * 30)).replace(base64.b64encode(b"x" * 30), b"!!!!")
    assert outcome(body)[0] is None


def test_work_on_a_cut_answer_is_bounded() -> None:
    """Tokens beyond the limit are left out."""
    cut = completed(b"[" + b"1," * 300_000)
    assert len(cut.kept) < 200_000
    assert json.loads(cut.body)


def test_any_json_that_is_cut_is_completed() -> None:
    """Each cut of a document leaves JSON with its values up to there; of a whole one all of them."""
    document = {
        "a": [1, -2.5e3, True, None, 'x\\"y'],
        "b": {"c": [], "d": {}},
        "e": "\u2028\U0001f600",
    }
    body = json.dumps(document).encode()
    assert json.loads(completed(body).body) == document
    assert completed(body).closers == b""
    for stop in range(1, len(body)):
        cut = completed(body[:stop])
        assert body.startswith(cut.kept)
        assert list(json.loads(cut.body)) == list(document)[: len(json.loads(cut.body))]


def test_a_picture_is_known_to_be_whole_while_more_may_come() -> None:
    """A look at an answer that still arrives changes nothing of what comes."""
    body = answer(part(), part(picture("JPEG")))
    sink = Received()
    receiver = Receiver(sink, "")
    looked = 0
    for chunk in chunked(body, [50]):
        for _ in receiver.feed(chunk):
            pass
        if receiver.whole_images and not receiver.is_done:
            cut = receiver.cut_off(is_end=False)
            assert cut is not None
            looked += 1
    assert looked > 3
    found = parse_answer(Answer(200, receiver.finish(), sink.arrived()))
    assert not isinstance(found, Failure)
    assert sink[0].getvalue_or_image() == PNG
    assert sink[1].getvalue_or_image() == picture("JPEG")
