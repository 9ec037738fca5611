"""The image extractor: what it extracts, what it leaves, and what it refuses."""

import re
from itertools import repeat

import orjson
import pytest

from gemini_batch.client.base64_image import MalformedAnswerError
from gemini_batch.client.image_extractor import ExtractorLimits, ImageExtractor
from gemini_batch.records import FailureKind
from tests.unit.client.extracting import PIXEL, Null, Sinks, answer, chunked, extract, feed_all

# --- what is an image, and what only looks like one ---


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[{"content":{"parts":[{"inline_data":{"data":"QUJD"}},{"inlinedata":{"data":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"Data":"QUJD","mimeType":"data","data\\u0000":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"fileData":{"data":"QUJD"}},{"data":"QUJD"},{"inlineData":"QUJD"}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":{"data":"QUJD"}}},{"inlineData":{"data":["QUJD"]}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":1}},{"inlineData":{"data":null,"x":"QUJD"}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":[{"data":"QUJD"}]},[{"inlineData":{"data":"QUJD"}}]]}}]}',
        b'{"candidates":[{"content":{"parts":{"inlineData":{"data":"QUJD"}}}}]}',
        b'{"candidates":[{"content":[{"parts":[{"inlineData":{"data":"QUJD"}}]}]}]}',
        b'{"candidates":[[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]]}',
        b'{"candidates":{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}}',
        b'{"candidates":{"0":{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}}}',
        b'{"candidates":[["content",{"parts":[{"inlineData":{"data":"QUJD"}}]}]]}',
        b'{"candidates":[{"content":{"parts":{"0":{"inlineData":{"data":"QUJD"}}}}}]}',
        b'{"candidates":[{"content":{"parts":[{"inlineData":["data","QUJD"]}]}}]}',
        b'{"a":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}',
        b'{"candidates":[{"content":{"parts":[{"x":{"inlineData":{"data":"QUJD"}}}],"role":{"data":"QUJD"}}}],"data":"QUJD"}',
        b'{"candidates":[{"content":{"parts":[{"text":"{\\"inlineData\\":{\\"data\\":\\"QUJD\\"}}"},{"text":"inlineData"}]}}]}',
        b'[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}]',
        b'{"x":{"y":[["}",{"z":"]"}]],"a":"{"},"candidates":[{"x":["]"],"content":{"x":{"y":"}"},"parts":[]}}]}',
        b'{"x":{"a":{"y":"}"},"b":["]"]},"candidates":[{"x":[{"y":"}"},["]"]]}]}',
        b'{"promptFeedback":{"blockReason":"SAFETY"}}',
        b'{"candidates":[{"content":{"parts":null}},{"content":{}},{},null,[]],"x":[]}',
        b"{}",
        b"[]",
    ],
)
def test_decoys_stay_as_they_are(body: bytes) -> None:
    """Only a string at the exact path is an image; a top-level array is unchanged."""
    assert extract([body]) == (body, [])


@pytest.mark.parametrize(
    ("body", "images"),
    [
        (
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD","data":"REVG"}}]}}]}',
            [b"ABC", b"DEF"],
        ),
        (
            b'{"candidates":[1,{"content":{"parts":[[],{"inlineData":{"data":"QUJD"}}]},"content":{}}],"candidates":[]}',
            [b"ABC"],
        ),
        (
            b'{"a":{"b":1},"candidates":[{"c":[],"content":{"parts":[{"a":{"inlineData":0},"inlineData":{"data":""}}]}}]}',
            [b""],
        ),
        (
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":{"data":"-"},"data":"QQ=="}}]}}]}',
            [b"A"],
        ),
        (
            rb'{"\u0063andidate\u0073":[{"c\u006Fntent":{"parts":[{"inline\u0044ata":{"dat\u0061":"QUJD"}}]}}]}',
            [b"ABC"],
        ),
        (
            rb'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"\/\u002B8\u0041QQ\u003d\u003D"}}]}}]}',
            [b"\xff\xef\x00A"],
        ),
    ],
)
def test_images_are_found_by_their_path(body: bytes, images: list[bytes]) -> None:
    """Duplicate keys are all images, empty data is an empty image; both may be escaped."""
    envelope, found = extract([body])
    assert found == images
    assert re.findall(rb'"#\d+"', envelope) == [b'"#%d"' % index for index in range(len(images))]


@pytest.mark.parametrize("size", [1, 4, 5, 1000])
@pytest.mark.parametrize("data", [b"--__QQ==", b"++//QQ==", b"-+_/QQ=="])
def test_base64_may_be_of_the_url_safe_alphabet(data: bytes, size: int) -> None:
    """Both alphabets are accepted, also mixed."""
    _, found = extract(chunked(answer(data), [size]))
    assert found == [b"\xfb\xef\xffA"]


def test_space_and_byte_order_mark_around_the_answer_are_accepted() -> None:
    """A byte order mark and trailing whitespace are dropped; a misplaced mark is refused."""
    body = answer()
    envelope = extract([body])[0]
    for chunks in (b"\xef\xbb\xbf" + body, b"\xef\xbb\xbf\r\n" + body + b"\r\n \t"):
        found, images = extract(chunked(chunks, [1]))
        assert (found.lstrip(), images) == (envelope, [PIXEL])
        assert orjson.loads(found) == orjson.loads(envelope)
    for mark in (b" \xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf", b"\xbf", b"\xef\xbb"):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(extract([mark + body])[0])


# --- what is refused ---


@pytest.mark.parametrize(
    "data",
    [
        b"QUJ",
        b"QUJD=",
        b"QUI",
        b"A===",
        b"====",
        b"=",
        b"QQ==QUJD",
        b"QQ==QQ",
        b"QQ====",
        b"QU=D",
        b"QUJD\n",
        b" QUJD",
        b"QU\x00D",
        b"QU\xc3\xa9",
        b"#0",
        rb"QUJD\n",
        rb"QUJ\u00e9",
        rb"QUJ\ud83d",
        rb"QUJ\q",
        rb"QUJ\u00zz",
        rb"QUJD\/",
        rb"QQ=\u003d\u0041AAA",
    ],
)
@pytest.mark.parametrize("size", [1, 4, 5, 1000])
def test_bad_base64_is_malformed(data: bytes, size: int) -> None:
    """Bad base64 and bad escapes are refused for any chunking, and the image is not closed."""
    sinks = Sinks()
    extractor = ImageExtractor(sinks.open)
    with pytest.raises(MalformedAnswerError) as caught:
        feed_all(extractor, chunked(answer(data), [size]))
    assert caught.value.kind is FailureKind.MALFORMED
    assert [sink.image for sink in sinks] == [None]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>busy</html>", "is a web page, not JSON"),
        (b" 12", "begins with b'1'"),
        (b'"text"', "neither a JSON object nor an array"),
        (b"null", "neither a JSON object nor an array"),
        (b'{"a":[1}', "'}' closes nothing"),
        (b'[{"a":1]', "']' closes nothing"),
        (rb'{"a":"\u12x4 is no escape"}', "is not an escape"),
        (b"", "breaks off after 0 bytes"),
        (b"  ", "breaks off after 2 bytes"),
    ],
)
def test_a_body_that_is_not_an_answer_is_malformed(body: bytes, why: str) -> None:
    """The error names the problem."""
    with pytest.raises(MalformedAnswerError, match=re.escape(why)) as caught:
        extract([body])
    assert caught.value.kind is FailureKind.MALFORMED


BODY = answer()
TWO = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}},{"inlineData":{"data":"QUJD"}}]}}]}'


@pytest.mark.parametrize(
    ("body", "fits", "exceeded"),
    [
        (BODY, ExtractorLimits(body_bytes=len(BODY)), ExtractorLimits(body_bytes=len(BODY) - 1)),
        (
            BODY,
            ExtractorLimits(envelope_bytes=len(extract([BODY])[0])),
            ExtractorLimits(envelope_bytes=len(extract([BODY])[0]) - 1),
        ),
        (BODY, ExtractorLimits(depth=7), ExtractorLimits(depth=6)),
        (TWO, ExtractorLimits(images=2), ExtractorLimits(images=1)),
    ],
    ids=["body", "envelope", "depth", "images"],
)
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_limits_hold_to_the_byte(
    body: bytes, fits: ExtractorLimits, exceeded: ExtractorLimits, size: int
) -> None:
    """An answer at the limit is accepted; one more byte, level or image is too large."""
    assert extract(chunked(body, [size]), fits) == extract([body])
    with pytest.raises(MalformedAnswerError, match="more than") as caught:
        extract(chunked(body, [size]), exceeded)
    assert caught.value.kind is FailureKind.TOO_LARGE


@pytest.mark.parametrize("endless", [b"[", b'{"a":', b"[1,", b' "a', b"      ", b"\\u0041"])
def test_a_body_without_end_is_cut_off(endless: bytes) -> None:
    """Endless nesting, text or space is refused at the limit, and no more than it is kept."""
    extractor = ImageExtractor(
        Sinks().open, ExtractorLimits(envelope_bytes=50_000, body_bytes=10**6)
    )
    extractor.feed(b'["' if endless.startswith(b"\\") else b"[")
    with pytest.raises(MalformedAnswerError, match="more than") as caught:
        feed_all(extractor, repeat(endless * 100))
    assert caught.value.kind is FailureKind.TOO_LARGE
    assert len(extractor._envelope) <= 50_000


# --- errors ---


class FullDisk(Null):
    """A sink that fails at one call."""

    def __init__(self, call: str) -> None:
        if call == "open":
            raise OSError(28, "no space")
        self.call = call

    def write(self, data: bytes, /) -> None:
        """Fail if this is the call."""
        if self.call == "write":
            raise OSError(28, "no space")

    def close(self) -> None:
        """Fail if this is the call."""
        if self.call == "close":
            raise OSError(28, "no space")


@pytest.mark.parametrize("call", ["open", "write", "close"])
def test_a_sink_that_fails_breaks_the_sieve(call: str) -> None:
    """The caller gets the disk's error, and the extractor accepts and returns nothing more."""
    extractor = ImageExtractor(lambda _: FullDisk(call))
    with pytest.raises(OSError, match="no space"):
        extractor.feed(answer())
    with pytest.raises(MalformedAnswerError, match="abandoned"):
        extractor.feed(answer())
    with pytest.raises(MalformedAnswerError, match="breaks off"):
        extractor.finish()


@pytest.mark.parametrize("junk", [b"x", b"}", b" {}", b"\x00", b"<!-- 12 ms -->", answer()])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_junk_behind_a_complete_answer_changes_nothing(junk: bytes, size: int) -> None:
    """A closed answer was paid for; what follows is dropped, in the same chunk or a later one."""
    assert extract(chunked(answer() + junk, [size])) == extract([answer()])
