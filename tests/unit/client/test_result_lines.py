"""A result file while it arrives: its lines, their offsets, and what is torn."""

import base64
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.client.result_lines import ResultLine, ResultLines
from gemini_batch.records import ApiError, Failure, FailureKind, IncomingImage, Reply
from tests.unit.client.extracting import Null, chunked
from tests.unit.client.result_file import PIXELS, Sink, line, response

EMPTY = Sink()
BASE64 = base64.b64encode(PIXELS).decode()
chunk_sizes = st.lists(st.integers(1, 9) | st.integers(1, 300), min_size=1, max_size=5)


def read(
    chunks: Iterable[bytes], start_bytes: int = 0
) -> tuple[list[ResultLine[Sink]], ResultLines[Sink], list[Sink]]:
    """Return the lines of a file, its parser and all sinks."""
    sinks: list[Sink] = []

    def open_sink() -> Sink:
        sinks.append(Sink())
        return sinks[-1]

    lines = ResultLines(open_sink, lambda body: body, start_bytes)
    found = [each for chunk in chunks for each in lines.feed(chunk)]
    last = lines.finish()
    return found + ([last] if last else []), lines, sinks


def image_of(found: ResultLine[Sink]) -> bytes | None:
    """Return the bytes of the result of a line."""
    if not isinstance(found.outcome, Reply) or found.outcome.image is None:
        return None
    return found.outcome.image.file.encode("latin-1")


# --- any chunking gives the same ---

LINES = (
    line("0.ab"),
    line("1.cd", response=response(PIXELS * 9)),
    line("2.ef", error={"code": 13, "message": "An internal error has occurred."}),
    line('é\n"', response=response()),
    b'{"key":"3","response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"!!"}}]}}]}}',
    b'{"response":{"promptFeedback":{"blockReason":"SAFETY"}},"key":"4"}',
    b"",
    b"  ",
    b"!",
    b'{"key":"5"',
    # Not plain: only the extractor reads them.
    line("6.gh", response=response(base64.b64encode(PIXELS))),
    line("7.ij", response=response(PIXELS[:2])),
    line("8.kl", response=response(text=f"![](data:image/png;base64,{BASE64})")),
    line("9.mn", response=response(inline_data={"data": BASE64})),
    line("10.op", response=response(inlineData={"data": BASE64, "Data": "data:"})),
    line("11.qr", response=response(inlineData=None, other={"data": BASE64})),
    line("12.st", response=response(inlineData={"data": BASE64.rstrip("=")})),
    line("13.uv", response={"candidates": [response()["candidates"][0], "data"]}),
    line("14.wx", response={"candidates": ["data"], "data": BASE64}),
    line("17.cd", response=response(text="a fox"), data=BASE64),
    b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"%b"}},'
    b'{"inline_data":{"data":"%b"}}]}}]},"key":"18.ef"}' % (BASE64.encode(), base64.b64encode(PIXELS * 2)),
    b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"%b"}},'
    b'{"text":"![](Data:image/png;base64,%b)"}]}}]},"key":"19.gh"}' % ((BASE64.encode(),) * 2),
    b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"%b"}}],'
    b'"parts":[]}}]},"key":"15.yz"}' % BASE64.encode(),
    b'{"response":{"candidates":[{"content":{"parts":[{"inlineData":{"data":"%b"}}]}}]},'
    b'"key":"16.ab","a":%b}' % (BASE64.encode(), b"[" * 250 + b"]" * 250),
)  # fmt: skip
bodies = st.lists(st.sampled_from(LINES), max_size=6)


@given(bodies, st.sampled_from([b"\n", b"\r\n"]), st.sampled_from([b"", b"\n"]), chunk_sizes)
def test_any_chunking_gives_the_same_lines(
    bodies: list[bytes], newline: bytes, end: bytes, sizes: list[int]
) -> None:
    """Lines, keys, outcomes, offsets and images do not depend on where the bytes are cut."""
    file = newline.join(bodies) + end
    whole, whole_lines, _ = read([file])
    cut, cut_lines, sinks = read(chunked(file, sizes))
    assert [replace(each, sink=EMPTY) for each in cut] == [
        replace(each, sink=EMPTY) for each in whole
    ]
    assert cut_lines.whole_bytes == whole_lines.whole_bytes
    assert [each.sink for each in cut] == sinks
    for each in cut:
        assert file[each.start_bytes : each.stop_bytes].strip() in bodies
    assert file[: cut_lines.whole_bytes][-1:] == cut_lines.last_byte


@pytest.mark.parametrize("body", [each.replace(b": ", b":").replace(b", ", b",") for each in LINES])
def test_a_line_that_comes_at_once_is_read_as_one_that_comes_byte_by_byte(body: bytes) -> None:
    """A short plain line is taken apart in another way, with the same outcome, key and images."""
    found = [
        [(each.key, each.outcome, each.sink.images and image_of(each)) for each in lines]
        for lines, _, _ in (read([body + b"\n"]), read(chunked(body + b"\n", [1])))
    ]
    assert found[0] == found[1]


@given(st.integers(0, 2000), chunk_sizes)
@example(len(line("0")), [1])
def test_a_cut_file_continues_behind_its_last_whole_line(cut: int, sizes: list[int]) -> None:
    """Each line comes once, whole, when the rest is read from where the whole lines ended."""
    file = b"\n".join([line(str(number)) for number in range(5)]) + b"\n"
    before, lines, _ = read(chunked(file[:cut], sizes))
    if torn := [each for each in before if each.is_torn]:
        assert torn == before[-1:]
        is_reply = isinstance(torn[0].outcome, Reply)
        assert (torn[0].sink.is_arrived, torn[0].key is None or is_reply) == (is_reply, True)
    resumed = [
        each for chunk in chunked(file[lines.whole_bytes :], sizes) for each in lines.feed(chunk)
    ]
    found = [each for each in before if not each.is_torn] + resumed
    assert [each.key for each in found] == ["0", "1", "2", "3", "4"]
    assert [image_of(each) for each in found] == [PIXELS] * 5
    # A file that is cut off before a newline has a whole line without it.
    places = [file[each.start_bytes : each.stop_bytes].strip() for each in found]
    assert places == file.splitlines()
    assert lines.finish() is None


# --- what a line is ---


def test_the_offsets_of_lines() -> None:
    """A line begins at its first byte and ends behind its newline, counted from where the file began to be read."""
    one, two = line("1"), line("2")
    found, lines, _ = read([one + b"\n\r\n" + two], start_bytes=100)
    assert [(each.start_bytes, each.stop_bytes) for each in found] == [
        (100, 101 + len(one)),
        (103 + len(one), 103 + len(one) + len(two)),
    ]
    assert (lines.whole_bytes, lines.last_byte) == (103 + len(one) + len(two), b"}")


DATA = base64.b64encode(PIXELS).decode()
DRESSES: dict[str, Any] = {
    "proto names": {"inline_data": {"mime_type": "image/png", "data": DATA}},
    "both names": {"inlineData": None, "inline_data": {"data": DATA}},
    "URL-safe and without padding": {"inlineData": {"data": DATA.replace("+", "-").replace("/", "_").rstrip("=")}},
    "lines of base64": {"inlineData": {"data": "\n".join(DATA[at : at + 8] for at in range(0, len(DATA), 8))}},
    "a data URI in the data": {"inlineData": {"data": f"data:image/png;base64,{DATA}"}},
    "a data URI in a text": {"text": f"![robot](data:image/png;base64,{base64.b64encode(PIXELS * 60).decode()})"},
    "a data URI as a file": {"fileData": {"fileUri": f"data:image/png;base64,{base64.b64encode(PIXELS * 60).decode()}"}},
}  # fmt: skip


@pytest.mark.parametrize("name", DRESSES)
def test_an_image_of_a_line_may_be_in_any_dress(name: str) -> None:
    """What is an image in an interactive answer is one in a line."""
    found, _, _ = read(chunked(line("k", response=response(**DRESSES[name])) + b"\n", [7]))
    assert [each.key for each in found] == ["k"]
    assert (image_of(found[0]) or b"").startswith(PIXELS)


def test_a_remote_image_of_a_line() -> None:
    """An image that a line names by its URI is one of the reply."""
    part: Any = {"fileData": {"fileUri": "https://x.test/a.png", "mimeType": "image/png"}}
    found, _, _ = read([line("k", response=response(**part))])
    assert isinstance(found[0].outcome, Reply)
    assert [each.uri for each in found[0].outcome.remote] == ["https://x.test/a.png"]


BAD_DATA = b'{"candidates":[{"content":{"parts":[{"inlineData":{"data":"QU!D%b"}}]}}]}' % (
    b"A" * 9000
)


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"response":%b,"key":"0.ab"}' % BAD_DATA, "0.ab"),
        (b'{"response":%b , "key" : "a\\u0062" }\r' % BAD_DATA, "ab"),
        (b' {"key":"0.ab","response":%b}' % BAD_DATA, "0.ab"),
        (b'{"response":%b,"key":"a\\"b"}' % BAD_DATA, 'a"b'),
        (b'{"response":%b}' % BAD_DATA, None),
        (b'{"response":%b]}],"key":"0.ab"}' % BAD_DATA, "0.ab"),
        (b'{"response":%b,"key":""}' % BAD_DATA, None),
        (b'{"response":%b,"key":"a\\x"}' % BAD_DATA, None),
        (b'{"response":%b,"metadata":{"key":"x"}}' % BAD_DATA, None),
    ],
)
def test_a_line_that_cannot_be_read_still_shows_its_key(
    body: bytes, key: str | None, size: int
) -> None:
    """The key is found at an end of a line whose image is damaged; the next line is read as ever."""
    found, _, _ = read(chunked(body + b"\n" + line("1.cd") + b"\n", [size]))
    assert [each.key for each in found] == [key, "1.cd"]
    assert isinstance(found[0].outcome, Failure)
    assert found[0].outcome.kind is FailureKind.MALFORMED
    assert "not valid base64" in found[0].outcome.message
    assert found[0].outcome.may_be_billed
    assert image_of(found[1]) == PIXELS
    assert b"".join(found[0].sink.body) == body.lstrip()  # it can be kept as it came


def test_a_line_that_is_not_closed_but_ended_shows_its_key() -> None:
    """A line that lacks a bracket is no torn line: others follow it."""
    body = line("0.ab").replace(b"}]", b"]").replace(b"inlineData", b"other")
    for each in (body, b'{"key":"0.ab","response":{'):
        found, _, _ = read([each + b"\n" + line("1.cd") + b"\n"])
        assert [(one.key, one.is_torn) for one in found] == [("0.ab", False), ("1.cd", False)]
        assert isinstance(found[0].outcome, Failure)


@pytest.mark.parametrize(
    "last",
    [
        line("1", response={})[:-1],
        line("1")[:40],
        b"{",
        b'{"key":"1"',
        b'{"key":"1","x":"',
        b"nonsense",
    ],
)
def test_a_last_line_that_is_not_closed_is_torn(last: bytes) -> None:
    """A file that ends within a line says so, and the line has no key: its value may be cut too."""
    found, lines, _ = read([line("0") + b"\n" + last])
    assert [(each.key, each.is_torn) for each in found] == [("0", False), (None, True)]
    assert isinstance(found[1].outcome, Failure)
    expected = FailureKind.NOT_AN_ANSWER if last == b"nonsense" else FailureKind.DISCONNECTED
    assert found[1].outcome.kind is expected
    assert lines.whole_bytes == len(line("0")) + 1


def test_an_error_line_is_an_error() -> None:
    """A line with a google.rpc.Status is the error of its code."""
    found, _, _ = read([line("k", error={"code": 14, "message": "overloaded"}) + b"\n"])
    assert found[0].outcome == ApiError(503, "UNAVAILABLE", None, "overloaded")


def test_the_key_is_redacted_before_a_line_is_read() -> None:
    """What the lines' JSON repeats of the API key is in no outcome."""

    def redact(body: bytes) -> bytes:
        return body.replace(b"secret", b"[key]")

    lines = ResultLines(Sink, redact)
    refusal = {"promptFeedback": {"blockReason": "secret"}}
    body = line("1", error={"code": 3, "message": "bad: secret"}) + b"\n"
    body += line("2", response=refusal) + b"\n" + b"secret nonsense\n"
    assert "secret" not in repr([each.outcome for each in lines.feed(body)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: line("k", response=response(b"x" * 3_000_000)),
        lambda: b'{"x":"' + b"y" * 4_000_000 + b'"}',
    ],
)
def test_memory_does_not_grow_with_a_line(make: Callable[[], bytes]) -> None:
    """A line of several megabytes takes a chunk's worth of memory."""

    class Nowhere(Sink):
        def open_image(self, index: int, /) -> Any:
            return Null()

        def open_aside(self) -> Any:
            return Null()

        def arrived(self) -> tuple[IncomingImage, ...]:
            return ()

    body = make() + b"\n"
    lines = ResultLines(Nowhere, lambda body: body)
    tracemalloc.start()
    try:
        for chunk in chunked(body, [1 << 16]):
            list(lines.feed(chunk))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


# --- lines that break off behind their picture ---


@pytest.mark.parametrize("lacks", [1, 2, 5, 8])
def test_a_line_that_lacks_its_last_brackets_has_its_picture(lacks: int) -> None:
    """A line of which the end is missing, with its newline, is of its call all the same; the next one is whole."""
    first = b'{"key":"0.ab","response":' + line()[13 : line().rindex(b', "key"')]
    found, _, _ = read([first[:-lacks] + b"\n" + line("1.cd")])
    assert [(each.key, each.is_torn, image_of(each)) for each in found] == [
        ("0.ab", False, PIXELS),
        ("1.cd", False, PIXELS),
    ]
    assert isinstance(found[0].outcome, Reply)
    assert found[0].outcome.is_cut


def test_brackets_that_are_missing_within_a_line_cost_no_picture() -> None:
    """The key behind them is found."""
    found, _, _ = read([line().replace(b"}]}", b"", 1) + b"\n"])
    assert [(each.key, image_of(each)) for each in found] == [("0.ab", PIXELS)]


@pytest.mark.parametrize("key", ["0.ab", None])
def test_a_torn_line_has_its_picture_if_that_is_whole(key: str | None) -> None:
    """The last line breaks off: it has its picture, and a key only if that came first."""
    tail = b"" if key is None else b'{"key":"0.ab","response":' + line()[13:]
    body = tail or line()
    stop = body.index(base64.b64encode(PIXELS)) + len(base64.b64encode(PIXELS))
    (torn,), parser, _ = read([body[: stop + 1]])
    assert (torn.key, torn.is_torn, image_of(torn)) == (key, True, PIXELS)
    assert parser.whole_bytes == 0
    (torn,), _, _ = read([body[: stop - 5]])
    assert isinstance(torn.outcome, Failure)
