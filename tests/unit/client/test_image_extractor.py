"""The image extractor: what it extracts, what it leaves, and what it refuses."""

import re
import tracemalloc
from itertools import repeat

import orjson
import pytest

from gemini_batch.client.answer_paths import LINE
from gemini_batch.client.image_extractor import ImageExtractor
from gemini_batch.client.malformed import ExtractorLimits, MalformedAnswerError
from gemini_batch.records import FailureKind
from tests.unit.client.extracting import PIXEL, Null, Sinks, answer, chunked, extract, feed_all

# --- what is an image, and what only looks like one ---


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[{"content":{"parts":[{"inline-data":{"data":"QUJD"}},{"inlinedata":{"data":"QUJD"}}]}}]}',
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
        b'[[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}]]',
        b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}',
        b'{"x":{"y":[["}",{"z":"]"}]],"a":"{"},"candidates":[{"x":["]"],"content":{"x":{"y":"}"},"parts":[]}}]}',
        b'{"x":{"a":{"y":"}"},"b":["]"]},"candidates":[{"x":[{"y":"}"},["]"]]}]}',
        b'{"promptFeedback":{"blockReason":"SAFETY"}}',
        b'{"candidates":[{"content":{"parts":null}},{"content":{}},{},null,[]],"x":[]}',
        b"{}",
        b"[]",
    ],
)
def test_decoys_stay_as_they_are(body: bytes) -> None:
    """Only a string at the exact path is an image."""
    assert extract([body]) == (body, [])


@pytest.mark.parametrize(
    "body",
    [
        b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}',
        b'{"Response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}',
        b'{"response":{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}}',
        b'{"request":{"contents":[{"parts":[{"inlineData":{"data":"QUJD"}}]}]},"key":"response"}',
        b'{"x":{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}}',
        b'{"response":[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}]}',
        b'[{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}}]',
        b'{"response":"candidates","candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}',
    ],
)
def test_decoys_of_a_line_stay_as_they_are(body: bytes) -> None:
    """In a line of a batch only the strings below its own `response` are images."""
    assert extract(chunked(body, [3]), paths=LINE) == (body, [])


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
        (
            b'{"candidates":[{"content":{"parts":[{"inline_data":{"mime_type":"x","data":"QUJD"}}]}}]}',
            [b"ABC"],
        ),
        (
            b'[{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]},1,[],{"candidates":[{"content":{"parts":[{"inlineData":{"data":"REVG"}}]}}]}]',
            [b"ABC", b"DEF"],
        ),
        (
            b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QUJD"}}]}}]}\r\n{"candidates":[{"content":{"parts":[{"inlineData":{"data":"REVG"}}]}}]}',
            [b"ABC", b"DEF"],
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
    for mark in (b" \xef\xbb\xbf", b"\n\n\xef\xbb\xbf\n", b")]}'\n", b")]}',\n\n"):
        assert extract(chunked(mark + body, [1])) == (envelope, [PIXEL])


DRESSED = [
    (b"QUJD", b"ABC"),
    (b"QUI", b"AB"),
    (b"QQ", b"A"),
    (b"QUJD=", b"ABC"),
    (b"QQ=", b"A"),
    (b"QQ====", b"A"),
    (b"=", b""),
    (b"QUJD\n", b"ABC"),
    (b" QU\r\nJD\tQUI ", b"ABCAB"),
    (rb"QUJD\r\nQU\nI=\n", b"ABCAB"),
    (rb"QUJ\u000aD\u0020-\u005f8=", b"ABC\xfb\xff"),
    (b"data:image/png;base64,QUJD", b"ABC"),
    (rb" DATA:image\/png;charset=utf-8;Base64,QU\nI", b"AB"),
    (b"data:;base64,", b""),
    (b"data", b"u\xabZ"),
    (b"dQ", b"u"),
]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000])
@pytest.mark.parametrize(("data", "image"), DRESSED)
def test_base64_may_be_in_any_dress(data: bytes, image: bytes, size: int) -> None:
    """White space, a missing padding and the start of a data URI cost no image."""
    assert extract(chunked(answer(data), [size]))[1] == [image]


# --- images in texts ---

_TEXT = b'{"candidates":[{"content":{"parts":[{"text":"%b"}]},"finishReason":"STOP"}]}'
_URI = b"data:image/png;base64,"
TEXTS: list[tuple[bytes, bytes, list[bytes]]] = [
    (b"![](%bQUJD)" % _URI, b"![](%b#0)" % _URI, [b"ABC"]),
    (b"%bQUJD" % _URI, b"%b#0" % _URI, [b"ABC"]),
    (b"%bQUJD here data: QUJD" % _URI, b"%b#0 here data: QUJD" % _URI, [b"ABC"]),
    (
        rb"![a](data:image\/png;base64,\/\u002B8\u003d)",
        rb"![a](data:image\/png;base64,#0)",
        [b"\xff\xef"],
    ),
    (b'<img src=\\"%bQU\\nJD QUI\\">' % _URI, b'<img src=\\"%b#0\\">' % _URI, [b"ABCAB"]),
    (b"(%bQUJ%%2BQQ%%3D%%3D)" % _URI, b"(%b#0)" % _URI, [b"AB~A"]),
    (b"%bQUJD\\n%bREVG" % (_URI, _URI), b"%b#0\\n%b#1" % (_URI, _URI), [b"ABC", b"DEF"]),
    (b"%bQUJD\\nQUJD" % _URI, b"%b#0\\nQUJD" % _URI, [b"ABC"]),
    (b"DATA:Image/WebP;x=y;BASE64,QUI", b"DATA:Image/WebP;x=y;BASE64,#0", [b"AB"]),
    (b"%bQUJD... and so on" % _URI, b"%b#0... and so on" % _URI, [b"ABC"]),
    (
        b"dadatadata:ima data:image/ data:image/png,QUJD d",
        b"dadatadata:ima data:image/ data:image/png,QUJD d",
        [],
    ),
    (b"data:text/plain;base64,QUJD", b"data:text/plain;base64,QUJD", []),
]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(("text", "left", "images"), TEXTS)
def test_images_in_a_text_are_extracted(
    text: bytes, left: bytes, images: list[bytes], size: int
) -> None:
    """The base64 of a data URI in a text is an image, however it is escaped; the rest stays."""
    assert extract(chunked(_TEXT % text, [size])) == (_TEXT % left, images)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("data", [b"QUJDR", b"QQ==QUJD", b"QU=D", b"QUJ"])
def test_bad_base64_in_a_text_costs_no_answer(data: bytes, size: int) -> None:
    """It is marked as no image; a text may contain anything."""
    envelope, _ = extract(chunked(_TEXT % (b"(%b%b) QUJD" % (_URI, data)), [size]))
    assert envelope == _TEXT % (b"(%b#0!) QUJD" % _URI)


def test_a_data_uri_in_a_file_uri_is_extracted() -> None:
    """A URI that is the image itself is decoded like one."""
    body = b'{"candidates":[{"content":{"parts":[{"file_data":{"file_uri":"%b%b"}}]}}]}'
    assert extract([body % (_URI, b"QUJD")]) == (body % (_URI, b"#0"), [b"ABC"])


# --- strings that nobody reads ---

LONG = b"c2ln" * 5000


@pytest.mark.parametrize("size", [1, 4095, 100_000])
def test_long_strings_are_left_out(size: int) -> None:
    """Signatures are dropped, other strings are set aside; both leave a mark in the envelope."""
    part = b'{"thoughtSignature":"%b","thought_signature" : "%b","x":{"y":"%b"},"short":"%b"}'
    body = b'{"candidates":[{"content":{"parts":[%b]}}],"a":["%b"]}'
    strings = (LONG, LONG, rb"\"" + LONG, LONG[:16_384])

    envelope, images = extract(chunked(body % (part % strings, LONG[1:]), [size]))

    left = (b"", b"", b"#20002 bytes", LONG[:16_384])
    assert (envelope, images) == (body % (part % left, b"#19999 bytes"), [])


def test_signatures_of_any_size_are_skipped_in_flat_memory() -> None:
    """A hundred megabytes of signatures pass, and take the memory of a few chunks."""
    extractor = ImageExtractor(Sinks().open)
    extractor.feed(b'{"candidates":[{"content":{"parts":[')
    chunk = b"c2ln" * 25_000
    tracemalloc.start()
    for _ in range(50):
        extractor.feed(b'{"thoughtSignature":"')
        feed_all(extractor, repeat(chunk, 20))
        extractor.feed(b'"},')
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    extractor.feed(b"{}]}}]}")

    assert peak_bytes < 3 * len(chunk)
    assert (
        orjson.loads(extractor.finish())["candidates"][0]["content"]["parts"][:2]
        == [{"thoughtSignature": ""}] * 2
    )


@pytest.mark.parametrize("size", [1000, 100_000, 10**7])
def test_text_is_kept_as_far_as_it_is_read(size: int) -> None:
    """Of endless text, more is kept than a row shows, and the image behind it counts."""
    text = rb"\u00e9 \"" * 500_000
    body = b'{"candidates":[{"content":{"parts":[{"text":"%b"},{"text":"%b![](%bQUJD)"}]}}]}'

    envelope, images = extract(chunked(body % (text, text, _URI), [size]))

    parts = orjson.loads(envelope)["candidates"][0]["content"]["parts"]
    assert images == [b"ABC"]
    assert (text_start := parts[0]["text"]) == ('é "' * 500_000)[: len(text_start)]
    assert len(text_start) > 1_000_000
    assert parts[1]["text"] == _URI.decode() + "#0"
    assert len(envelope) < 5 * 2**20


# --- what is refused ---


@pytest.mark.parametrize(
    "data",
    [
        b"QUJ",
        b"QR",
        b"A===",
        b"====",
        b"QUJDQ",
        b"QQ==QUJD",
        b"QQ==QQ",
        b"QU=D",
        b"QU\x00D",
        b"QU\xc3\xa9",
        b"#0",
        rb"QUJ\u00e9",
        rb"QUJ\ud83d",
        rb"QUJ\q",
        rb"QUJ\u00zz",
        rb"QUJD\/",
        rb"QQ=\u003d\u0041AAA",
        b"data:image/png,QUJD",
        b"data:QUJD",
        b"data:image/png;base64" + b"," * 300,
        b"data:" + b"a" * 300,
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
        (b'{"a":[1}', "'}' closes nothing"),
        (b'[{"a":1]', "']' closes nothing"),
        (rb'{"a":"\u12x4 is no escape"}', "is not an escape"),
        (b"[{}", "breaks off after 3 bytes"),
        (b'{} {"a"', "breaks off after 7 bytes"),
    ],
)
def test_a_body_that_is_not_an_answer_is_malformed(body: bytes, why: str) -> None:
    """The error names the problem."""
    with pytest.raises(MalformedAnswerError, match=re.escape(why)) as caught:
        extract([body])
    assert caught.value.kind is FailureKind.MALFORMED


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>busy</html>", "is a web page, not JSON"),
        (b" 12", "begins with '12'"),
        (b'"text"', "the answer is not JSON: it begins with"),
        (b"Bad \x1b[31m gateway", "begins with 'Bad [31m gateway'"),
        (b"", "the answer is empty"),
        (b" \n ", "the answer is empty"),
    ],
)
def test_a_body_that_is_no_json_is_no_answer(body: bytes, why: str) -> None:
    """What is no object and no array is said to be something else."""
    with pytest.raises(MalformedAnswerError, match=re.escape(why)) as caught:
        extract([body])
    assert caught.value.kind is FailureKind.NOT_AN_ANSWER


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
    assert len(extractor._envelope.tail(10**6)) <= 50_000


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
    body = answer()[:-1] + b',"promptFeedback":{"blockReason":"X"}}'
    assert extract(chunked(body + junk, [size])) == extract([body])
