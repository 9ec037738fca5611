"""Plain lines: what is planned from them is what their jobs would give."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gemini_batch.catalog.models import DEFAULT_MODEL
from gemini_batch.errors import ManifestError
from gemini_batch.manifest import Manifest, plain
from gemini_batch.manifest.plain import PlainJobs, PlainLines
from gemini_batch.plan import CallState, JobError, Plan, Planner
from gemini_batch.plan.call_state import Aliases
from gemini_batch.plan.canonical import request_sha256
from tests.unit.cli.test_bad_input import FILES
from tests.unit.manifest.lines import carefully
from tests.unit.plan.jobs import resolve

ROBOT = {"id": "robot", "prompt": "A robot"}
ALL = ROBOT | {
    "aspect_ratio": "16:9",
    "image_size": "2K",
    "model": DEFAULT_MODEL,
    "seed": 2147483646,
    "metadata": {"sku": "7", "n": 7, "is_new": True},
}
PLAIN: dict[str, dict[str, Any] | bytes] = {
    "a prompt": {"prompt": "A robot"},
    "every name": ALL,
    "a prompt that is not ASCII": {"prompt": "Überraschung für Zoë! 可爱"},
    "empty metadata": ROBOT | {"metadata": {}},
    "a model by the name of Google's requests": ROBOT | {"model": f"models/{DEFAULT_MODEL}"},
    "a model that is not known": ROBOT | {"model": "a-new-one"},
    "a prompt of as many letters, and fewer bytes": {"prompt": "U" * 25},
    "a prompt with spaces around it": {"prompt": " A robot "},
    "escaped quotes": {"prompt": 'It says "Hi": "you"'},
    "escapes": b'{"prompt": "\\u0022a\\u0022 \\n b"}',
    "colons, braces and quotes": {"prompt": '{"id": "robot", "id": "cat"}'},
    "spaces between": b'{ "id" : "robot" , "prompt" :\t"A robot" }',
    "the largest whole number of orjson": ROBOT | {"metadata": {"n": 2**64 - 1}},
    "a seed": {"prompt": "A robot", "seed": -7},
    "the seed by which a kind is cut": {"prompt": '"seed":2147483647', "seed": 2**31 - 1},
    "a model whose id has that seed": {"prompt": "x", "model": '"seed":2147483647', "seed": 1},
    "the text by which a kind is cut": {"prompt": "\\prompt/"},
}
NOT_PLAIN: dict[str, dict[str, Any] | bytes] = {
    "a name twice": b'{"id": "a", "id": "b", "prompt": "x"}',
    "a name twice, written otherwise": b'{"id" : "a", "\\u0069d": "b", "prompt": "x"}',
    "a prompt twice": b'{"prompt": "x", "prompt": "y"}',
    "a name twice, and quotes that are escaped": b'{"prompt": "\\u0022\\u0022", "id": "a", "id": "b"}',
    "a name twice, and backslashes": b'{"id": 1, "id": "b", "prompt": "x\\\\", "metadata": {"a": "\\\\"}}',
    "a number twice": b'{"prompt": 7, "prompt": 8}',
    "a null twice": b'{"prompt": "x", "model": null, "model": null}',
    "a null id twice": b'{"prompt": "x", "id": null, "id": null}',
    "null metadata twice": b'{"prompt": "x", "metadata": null, "metadata": null}',
    "metadata twice": b'{"prompt": "x", "metadata": {"a": 1}, "metadata": {}}',
    "a name of metadata twice": b'{"prompt": "x", "metadata": {"a": 1, "a": 2}}',
    "an empty model": ROBOT | {"model": ""},
    "a null": ROBOT | {"model": None},
    "a null id": {"id": None, "prompt": "x"},
    "null metadata": ROBOT | {"metadata": None},
    "a null prompt": {"prompt": None},
    "a number as a prompt": {"prompt": 7},
    "a number as a size": ROBOT | {"image_size": 512},
    "a number as an id": {"id": 7, "prompt": "x"},
    "an empty prompt": {"prompt": ""},
    "an empty id": {"id": "", "prompt": "x"},
    "a size that does not exist": ROBOT | {"image_size": "2k"},
    "a list as a model": ROBOT | {"model": [DEFAULT_MODEL]},
    "no object as metadata": ROBOT | {"metadata": "a"},
    "nested metadata": ROBOT | {"metadata": {"a": [1]}},
    "a float in metadata": ROBOT | {"metadata": {"n": 0.5}},
    "a whole number too large for orjson": ROBOT | {"metadata": {"n": 2**64}},
    "another field": ROBOT | {"temperature": 1},
    "a null seed": ROBOT | {"seed": None},
    "a seed as text": ROBOT | {"seed": "7"},
    "a seed as a truth value": ROBOT | {"seed": True},
    "a seed with a fraction": ROBOT | {"seed": 7.0},
    "a seed that is too large": ROBOT | {"seed": 2**31},
    "a seed twice": b'{"prompt": "x", "seed": 1, "seed": 2}',
    "an unknown field": ROBOT | {"sead": "1"},
    "Google's name of an id": {"key": "robot", "prompt": "x"},
    "an id that no file can have": {"id": "../x", "prompt": "x"},
    "an id that is not ASCII": {"id": "e\u0301", "prompt": "x"},
    "a variant": ROBOT | {"variants": 2},
    "an image": ROBOT | {"images": ["a.png"]},
    "no object": b'["id", "prompt"]',
    "an empty list": b"[]",
    "an empty text": b'""',
    "a number": b"3",
    "no JSON": b'{"prompt": "x"',
}


def text_of(line: dict[str, Any] | bytes) -> bytes:
    """Return the bytes of a line."""
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def lengths(lines: PlainLines, *texts: bytes) -> list[int]:
    """Return how many plain lines follow each other, and 0 for each other line."""
    return [len(jobs) if jobs else 0 for jobs in lines.read(texts)]


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_line_is_read_as_one(name: str) -> None:
    """A line of names and texts that are surely right is read without a model."""
    assert lengths(PlainLines(), text_of(PLAIN[name])) == [1]


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_a_line_that_may_be_anything_else_is_not_plain(name: str) -> None:
    """A line that may be wrong, or holds what a plain line has not, is left to `Job`."""
    lines = PlainLines()
    assert lengths(lines, text_of(NOT_PLAIN[name])) == [0]
    assert lengths(lines, text_of(NOT_PLAIN[name])) == [0]  # also after it made a kind
    assert lengths(lines, text_of(ALL)) == [1]


def planned(path: Path, states: bytes) -> Iterator[Any]:
    """Yield all that is known of a manifest once it is planned; calls take these states in turn."""
    looked_up: list[Any] = []

    def state_of(call_id: str, digest: str, aliases: Aliases) -> CallState:
        others = [(other, request_sha256(request)) for other, request in aliases(lambda _: True)]
        unknown = list(aliases(lambda other: other == "unknown"))
        looked_up.append((call_id, digest, others, unknown))
        return CallState(states[len(looked_up) % len(states)])

    plan = Plan(Planner(DEFAULT_MODEL, resolve), state_of if states else None)
    with Manifest(path) as manifest:
        try:
            for index, found in manifest.scan():
                try:
                    if isinstance(found, PlainJobs):
                        plan.add_plain(found, manifest.lines(index, len(found)))
                    else:
                        plan.add(found, manifest.line(index))
                except JobError as error:
                    for each in error.problems:
                        manifest.problem(each.line, each.field, each.message)
        except ManifestError as error:
            yield error.lines()
        yield from (manifest._offsets, manifest._hashes, manifest._lines, manifest._ranks)
        yield [manifest.read(index) for index in range(len(manifest._ranks))]
    yield looked_up
    yield [plan.count(state) for state in CallState]
    yield plan.models, plan.totals, plan.total, plan.unusual.downscaled
    yield plan._variants, plan._lane_of, [list(plan.pending(model)) for model in plan.models]


def check(content: bytes, states: bytes) -> None:
    """Check that a manifest is planned alike with plain lines and without."""
    path = Path("jobs.jsonl")
    path.write_bytes(content)
    with carefully():
        expected = list(planned(path, states))
    assert list(planned(path, states)) == expected


texts = st.sampled_from(
    ["x", "A robot", "a", "a-b", "A", "é", "e\u0301", '"', "\\", 'a"b', ""]
) | st.text(max_size=9)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
fields: dict[str, st.SearchStrategy[Any]] = {
    "id": texts,
    "aspect_ratio": st.sampled_from(["1:1", "16:9", "1:8", "2:1"]),
    "image_size": st.sampled_from(["1K", "4K", "512", "8K"]),
    "model": st.sampled_from([DEFAULT_MODEL, "gemini-2.5-flash-image", "models/new", "?"]),
    "seed": st.integers(-(2**31) - 1, 2**31) | st.just(7.0),
    "metadata": st.dictionaries(texts, texts | numbers, max_size=3),
}
right = st.fixed_dictionaries({"prompt": texts}, optional=fields)
other = st.dictionaries(
    st.sampled_from([*fields, "prompt", "seed", "variants", "key", "x"]), anything, max_size=5
)


@st.composite
def line(draw: st.DrawFn) -> bytes:
    """Draw a line as people's tools write it, now and then with a name twice."""
    pairs = list(draw(right | right | other).items())
    if draw(st.integers(0, 4)) == 4:
        pairs.append((draw(st.sampled_from(["prompt", *fields])), draw(texts | anything)))
    space, is_ascii = draw(st.sampled_from(["", " ", "\t"])), draw(st.booleans())
    parts = (
        f"{json.dumps(name)}{space}:{space}{json.dumps(value, ensure_ascii=is_ascii)}"
        for name, value in pairs
    )
    return ("{" + f"{space},{space}".join(parts) + "}").encode(errors="ignore")


@given(st.lists(line(), max_size=9), st.binary(max_size=5).map(lambda b: bytes(x % 5 for x in b)))
@example([b'{"prompt": "x"}'] * 3, b"")
@example(
    [b'{"prompt": "x"}', b'{"prompt": "a longer one"}'], bytes([CallState.NEW, CallState.DONE])
)
@example([b'{"prompt": "x", "model": "gemini-2.5-flash-image", "image_size": "4K"}'] * 2, b"\0")
def test_plain_lines_are_planned_as_their_jobs_are(lines: list[bytes], states: bytes) -> None:
    """Index, ids, problems, digests, states, totals and order are the same with plain lines and without."""
    check(b"\n".join(lines), states)


@pytest.mark.parametrize("states", [b"", bytes(CallState)])
@pytest.mark.parametrize("name", FILES)
def test_bad_input_is_the_same_on_both_roads(name: str, states: bytes) -> None:
    """Every kind of bad file has the same problems with plain lines and without."""
    check(FILES[name][0], states)


def test_plain_and_other_lines_share_ids_and_sums() -> None:
    """Plain lines among others: repeated ones, equal ids, totals and the largest line are those of their jobs."""
    lines = [
        *map(text_of, PLAIN.values()),
        *map(text_of, NOT_PLAIN.values()),
        b'{"prompt": "x", "images": ["a.png"]}',
        b'{"prompt": "A robot", "variants": 3}',
        b'{"id": "Robot.2", "prompt": "x"}',
    ]
    for states in (b"", bytes(CallState)):
        check(b"\n".join([*lines, *reversed(lines), *lines]), states)


def test_a_line_that_is_not_plain_does_not_hide_among_many() -> None:
    """One line that is wrong, in any place of many, is the one with the problem; the others are plain."""
    good = [json.dumps({"prompt": f'A {number} "robot"'}).encode() for number in range(40)]
    for place in (0, 1, 22, 39, 40):
        for name in (
            "a name twice",
            "a null twice",
            "an empty prompt",
            "a number as an id",
            "no JSON",
        ):
            check(b"\n".join([*good[:place], text_of(NOT_PLAIN[name]), *good[place:]]), b"")


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_lines_that_are_not_plain_leave_the_others_so(name: str) -> None:
    """Each other line is by itself; the plain ones before, between and after it are read at once."""
    other, good = text_of(NOT_PLAIN[name]), [text_of(ALL)] * 60
    found = lengths(PlainLines(), *good[:20], other, *good[:35], other, other, *good)
    assert found == [20, 0, 35, 0, 0, 60]


def test_many_kinds_are_planned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """More models than are kept in mind change nothing."""
    monkeypatch.setattr(plain, "_MAX_KINDS", 3)
    check(
        b"\n".join(b'{"prompt": "x", "model": "m%d"}' % (number % 5) for number in range(20)), b""
    )
    assert lengths(PlainLines(), b'{"prompt": "x", "model": "m4"}') == [1]
