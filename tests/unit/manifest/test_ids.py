import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch import hashmap
from gemini_batch.manifest import Manifest
from gemini_batch.records import ids
from tests.unit.manifest.lines import ids_found, ids_of, index_of, refusal, scanned, written

BAD_IDS = {
    "../x": 'it is a path inside the output folder: no part of it may be "." or ".."',
    "a/./b": 'it is a path inside the output folder: no part of it may be "." or ".."',
    "/x": 'it is a path inside the output folder: leave the first "/" out',
    "C:x": "':' can't be in a file's name: leave it out",
    "a\\b": "'\\' can't be in a file's name: leave it out",
    "a?b": "'?' can't be in a file's name: leave it out",
    "a\0b": "the character U+0000 can't be in a file's name: leave it out",
    "a\nb": "the character U+000A can't be in a file's name: leave it out",
    "a.": "no part of it may begin with a space, or end with a space or a dot",
    "a /b": "no part of it may begin with a space, or end with a space or a dot",
    " a": "no part of it may begin with a space, or end with a space or a dot",
    "a//b": 'every part between slashes needs a name, as in "icons/robot"',
    "a/": 'every part between slashes needs a name, as in "icons/robot"',
    "a.JPG/b": 'the folder "a.JPG" could be the image of a job "a": give it another name',
}


@pytest.mark.parametrize("job_id", BAD_IDS)
def test_id_that_cannot_name_a_file_is_refused(job_id: str) -> None:
    """An id outside the output folder, or invalid on some file system, is refused with the reason."""
    found = json.dumps(job_id)
    assert refusal({"id": job_id, "prompt": "x"}) == [
        f"jobs.jsonl:1: id: got {found}; {BAD_IDS[job_id]}"
    ]


INVISIBLE = {
    "an override of the direction": "\u202e",
    "an isolate": "\u2066",
    "a mark of the direction": "\u200f",
    "an Arabic mark": "\u061c",
    "a space of no width": "\u200b",
    "a joiner": "\u200d",
    "a byte order mark": "\ufeff",
    "a soft hyphen": "\u00ad",
    "a word joiner": "\u2060",
    "a line separator": "\u2028",
    "a filler of Hangul": "\u3164",
    "a tag": "\U000e0041",
}


@pytest.mark.parametrize("name", INVISIBLE)
def test_an_id_is_what_it_looks_like(name: str) -> None:
    """A character that is not seen, or turns others around, is refused in every part of an id."""
    character = INVISIBLE[name]
    code = f"U+{ord(character):04X}"
    for job_id in (f"a{character}b", f"{character}icons/gpj.exe", f"icons/a{character}"):
        [problem] = refusal({"id": job_id, "prompt": "x"})
        advice = f"the character {code} is invisible in a file's name: leave it out"
        assert problem.endswith(f"; {advice}")


def test_every_invisible_category_is_refused() -> None:
    """Of Unicode's format characters and separators, only the visible signs of numbers are allowed."""
    visible = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}
    found = {
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cf", "Zl", "Zp", "Cc")
        and ids.fault(f"a{chr(code)}b") is None
    }
    assert found <= visible


@pytest.mark.parametrize(
    "job_id",
    ["robot \u2764\ufe0f", "\u0645\u06cc/\u0916", "\u845b\U000e0100", "\U0001f469\U0001f3fd"],
)
def test_letters_and_emoji_of_any_script_are_allowed(job_id: str) -> None:
    """What is seen may be used, with the marks that belong to it."""
    assert ids_of({"id": job_id, "prompt": "x"}) == [job_id]


def test_long_id_is_refused() -> None:
    """An id is at most 200 bytes, 150 of them between two slashes, counted in UTF-8."""
    found = 'got "' + "é" * 39 + "… (302 characters)"
    limits = "allowed: 200, and 150 in one part: choose a shorter one"
    expected = f"jobs.jsonl:1: id: {found}; it has 600 bytes, 600 of them in one part; {limits}"
    assert refusal({"id": "é" * 300, "prompt": "x"}) == [expected]
    assert ids.fault("x" * 151) is not None
    assert ids.fault("/".join(["x" * 49] * 4)) is None
    assert ids.fault("/".join(["x" * 50] * 4)) is not None


def test_bad_key_is_named_key() -> None:
    """In a line with Google's `key`, the message says `key`."""
    assert refusal({"key": "a.", "request": {"contents": [1]}})[0].startswith(
        'jobs.jsonl:1: key: got "a."; '
    )


DUPLICATES: dict[str, tuple[list[dict[str, Any]], str]] = {
    "same": (
        [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}],
        '2: id: got "a", which line 1 has; every id must be unique',
    ),
    "case": (
        [{"id": "Straße", "prompt": "x"}, {"key": "STRASSE", "prompt": "y"}],
        '2: key: got "STRASSE", which line 1 has as "Straße"; every id must be unique',
    ),
    "NFC": (
        [{"id": "\u00e9", "prompt": "x"}, {"id": "e\u0301", "prompt": "y"}],
        '2: id: got "\u00e9", which line 1 has; every id must be unique',
    ),
    "id that is a variant before": (
        [{"id": "robot", "prompt": "x", "variants": 2}, {"id": "Robot.2", "prompt": "y"}],
        '2: id: got "Robot.2", which variant 2 of line 1 has as "robot.2"; every id must be unique',
    ),
    "variant that is an id before": (
        [{"id": "robot.3", "prompt": "x"}, {"id": "robot", "prompt": "y", "variants": 9}],
        '2: variants: variant 3 would be "robot.3", which line 1 has; every id must be unique',
    ),
    "derived before": (
        [{"prompt": "A robot"}, {"id": "a-robot-fc0c2f5e6a", "prompt": "y"}],
        '2: id: got "a-robot-fc0c2f5e6a", which line 1 has; every id must be unique',
    ),
}


@pytest.mark.parametrize("name", DUPLICATES)
def test_duplicate_id_names_both_lines(name: str) -> None:
    """Two calls that would be one file are refused, and both lines are named."""
    lines, message = DUPLICATES[name]
    assert refusal(*lines) == [f"jobs.jsonl:{message}"]


def test_duplicate_is_found_across_a_bad_line() -> None:
    """A bad line does not hide the lines before it."""
    first, bad, again = {"id": "a", "prompt": "x"}, {"prompt": ""}, {"id": "a", "prompt": "y"}
    assert (
        refusal(first, bad, again)[1]
        == 'jobs.jsonl:3: id: got "a", which line 1 has; every id must be unique'
    )


def test_colliding_hashes_are_no_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ids with equal hashes are compared by their text in the file."""
    monkeypatch.setattr(hashmap, "hash", lambda _: 1, raising=False)
    assert ids_of({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}) == ["a", "b"]


def test_derived_ids_never_change() -> None:
    """Derived ids are the same in all versions, so that no finished job is paid for again."""
    assert (
        ids_of(
            {"prompt": "A cute robot mascot"},
            {
                "prompt": "A cute robot mascot",
                "images": ["in/a.png"],
                "aspect_ratio": "16:9",
                "image_size": "2K",
            },
            {
                "prompt": "x",
                "seed": 0,
                "temperature": 0,
                "modalities": ["TEXT", "IMAGE"],
                "system": "s",
                "model": "m",
            },
            {"parts": [{"image": "a.png"}, {"text": "Überraschung für Zoë!"}]},
            {"request": {"contents": [{"parts": [{"text": "Hi there"}]}]}},
            {"prompt": "可爱的机器人"},
            {"prompt": "a-very-long-prompt whose forty characters end inside of a word"},
        )
        == GOLDEN_IDS
    )


GOLDEN_IDS = [
    "a-cute-robot-mascot-92f9003e0a",
    "a-cute-robot-mascot-60a5de9bd3",
    "x-1ef8356f40",
    "uberraschung-fur-zoe-3734ef1170",
    "hi-there-8741baae56",
    "image-c3271b6240",
    "a-very-long-prompt-whose-forty-73c666eb54",
]


def test_derived_id_depends_on_the_request_alone() -> None:
    """Metadata, variants, the order of keys and other lines change no derived id."""
    plain = ids_of({"prompt": "A robot", "seed": 1})
    assert (
        ids_of(
            {"prompt": "other"},
            {"seed": 1, "metadata": {"a": 1}, "variants": 3, "prompt": "A robot"},
        )[1:]
        == plain
    )
    assert ids_of({"prompt": "A robot", "seed": 1, "images": []}) == plain
    assert ids_of({"prompt": "A robot", "seed": 0}) != plain
    assert ids_of({"prompt": "A robot"}) != plain


def test_identical_lines_are_numbered_in_order() -> None:
    """Three equal lines are three jobs."""
    robot = {"prompt": "A robot"}
    base = ids_of(robot)[0]
    assert ids_of(robot, {"prompt": "other"}, robot, robot)[0::2] == [base, f"{base}-2"]
    path = written(robot, robot, {**robot, "variants": 2})
    with Manifest(path) as manifest:
        found = [job_id for _, job_id in ids_found(manifest)]
        assert found == [base, f"{base}-2", f"{base}-3"]
        assert [manifest.read(number).id for number in range(3)] == found  # type: ignore[union-attr]  # unchanged lines


def test_repeated_id_skips_one_that_is_taken() -> None:
    """An explicit `-2` is not used for a repeated line."""
    base = ids_of({"prompt": "A robot"})[0]
    assert ids_of({"id": f"{base}-2", "prompt": "x"}, {"prompt": "A robot"}, {"prompt": "A robot"})[
        1:
    ] == [
        base,
        f"{base}-3",
    ]


def test_many_identical_lines_take_linear_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each identical line looks up at most two ids, however many came before it."""
    lookups = 0
    claim = Manifest._claim

    def counted(self: Manifest, call_id: str, number: int) -> int | None:
        nonlocal lookups
        lookups += 1
        return claim(self, call_id, number)

    monkeypatch.setattr(Manifest, "_claim", counted)
    _, found = index_of(written(*['{"prompt": "x"}'] * 2_000))
    assert found[-1] == f"{found[0]}-2000"
    assert lookups <= 2 * 2_000


def test_google_batch_lines_run_unchanged() -> None:
    """A line of Google's Batch API is a job unchanged, in either spelling."""
    camel = {
        "contents": [{"parts": [{"text": "x"}]}],
        "generationConfig": {"imageConfig": {"imageSize": "2K"}},
    }
    snake = {
        "contents": [{"parts": [{"text": "x"}]}],
        "generation_config": {"image_config": {"image_size": "2K"}},
    }
    jobs = scanned(
        written({"key": "request_1", "request": camel}, {"key": "request_2", "request": snake})
    )
    assert [(job.id, job.request) for job in jobs] == [("request_1", camel), ("request_2", snake)]


def test_ids_are_normalised_to_nfc() -> None:
    """An id is used in NFC."""
    assert ids_of({"id": "ico\u0302ne/e\u0301", "prompt": "x"}) == ["ic\u00f4ne/\u00e9"]


@given(st.text(max_size=12))
def test_allowed_ids_stay_inside_the_folder(job_id: str) -> None:
    """An allowed id is a relative path without `..` that never names a folder."""
    if ids.fault(ids.normal(job_id)) is None and job_id:
        path = Path("images") / f"{job_id}.jpg"
        assert path.parts[0] == "images"
        assert not {"..", ".", ""} & set(path.parts)
        assert len(path.parts) == 2 + job_id.count("/")
