import json
import os
import random
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch import manifest as manifest_package
from gemini_batch.errors import ManifestError
from gemini_batch.manifest import SHOWN_PROBLEMS, Manifest, problems, reader
from gemini_batch.records import ids
from gemini_batch.records.job import Job


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(*lines: dict[str, Any] | str | bytes) -> Path:
    """Write a manifest of these lines; a dict is a job."""
    path = Path("jobs.jsonl")
    texts = (json.dumps(line) if isinstance(line, dict) else line for line in lines)
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
    return path


def scanned(path: Path) -> list[Job]:
    """Return all jobs of a manifest that is right."""
    with Manifest(path) as manifest:
        return [job for _, job in manifest.scan()]


def ids_of(*lines: dict[str, Any] | str | bytes) -> list[str | None]:
    """Return the final ids of these lines."""
    return [job.id for job in scanned(written(*lines))]


def refusal(*lines: dict[str, Any] | str | bytes) -> list[str]:
    """Return what is said of a manifest that is wrong."""
    with pytest.raises(ManifestError) as refused:
        scanned(written(*lines))
    return refused.value.lines()


ONE_OBJECT = 'a line is one whole JSON object, such as {"prompt": "A cute robot mascot"}'
FIELDS = (
    "id, prompt, images, parts, request, system, aspect_ratio, image_size, modalities, seed, temperature, model, "
    "variants, metadata"
)
ASK = 'needs exactly one of "prompt", "parts" and "request"'

BAD_LINES: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "cut off": (
        b'{"prompt": "x"',
        f"got the line's end at column 15, which is not valid JSON (Expecting ',' delimiter); {ONE_OBJECT}",
    ),
    "two objects": (
        b'{"prompt": "x"} {"prompt": "y"}',
        f'got "{{\\"prompt\\": \\"y\\"}}" at column 17, which is not valid JSON (Extra data); {ONE_OBJECT}',
    ),
    "a tab in a text": (
        b'{"prompt": "a\tb"}',
        f'got "\\tb\\"}}" at column 14, which is not valid JSON (Invalid control character); {ONE_OBJECT}',
    ),
    "Python's None": (
        b'{"prompt": "x", "seed": None}',
        f'got "None}}" at column 25, which is Python and not JSON; {ONE_OBJECT}',
    ),
    "not UTF-8": (
        b'{"prompt": "caf\xe9"}',
        "not UTF-8: byte 0xe9 at column 16; save the file as UTF-8",
    ),
    "array": (b'[{"prompt": "x"}]', f'got [{{"prompt":"x"}}]; {ONE_OBJECT}'),
    "number": (b"3", f"got 3; {ONE_OBJECT}"),
    "lone surrogate": (
        b'{"prompt": "a\\ud800b"}',
        "prompt: got \\ud800 alone, half of a character; write both halves, or the character itself",
    ),
    "lone surrogate in a name": (
        b'{"\\udc00": 1}',
        "got \\udc00 alone, half of a character; write both halves, or the character itself",
    ),
    "NaN": (
        b'{"prompt": "x", "temperature": NaN}',
        "got NaN, which JSON does not have; write null, or leave it out",
    ),
    "deeper than can be read": (
        b"[" * 2000 + b"]" * 2000,
        "nested too deeply; allowed: 240 levels",
    ),
    "deeper than can be written": (
        b'{"prompt": "x", "metadata": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}",
        "nested too deeply; allowed: 240 levels",
    ),
    "unknown field, near one": (
        {"prompt": "x", "aspectratio": "1:1"},
        'aspectratio: no such field; did you mean "aspect_ratio"?',
    ),
    "unknown field": ({"prompt": "x", "zzz": 1}, f"zzz: no such field; known: {FIELDS}"),
    "unknown field of a part": (
        {"parts": [{"txt": "x"}]},
        'parts[0].txt: no such field; did you mean "text"?',
    ),
    "id and key": (
        {"id": "a", "key": "a", "prompt": "x"},
        'key: is the same as "id": leave one of them out',
    ),
    "no string": ({"prompt": 3}, 'prompt: got 3; must be a string: write "3"'),
    "no list": (
        {"prompt": "x", "images": "a.png"},
        'images: got "a.png"; must be a list: write ["a.png"]',
    ),
    "no whole number": ({"prompt": "x", "seed": 7.0}, "seed: got 7.0; must be a whole number"),
    "no number": ({"prompt": "x", "temperature": "1"}, 'temperature: got "1"; must be a number'),
    "no object": ({"prompt": "x", "metadata": [1]}, "metadata: got [1]; must be an object"),
    "part that is no object": ({"parts": [3]}, "parts[0]: got 3; must be an object"),
    "not a choice": (
        {"prompt": "x", "aspect_ratio": "4:5x"},
        'aspect_ratio: got "4:5x"; allowed: 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9, 1:4, 4:1, 1:8, 8:1',
    ),
    "not a choice, in a list": (
        {"prompt": "x", "modalities": ["image"]},
        'modalities[0]: got "image"; allowed: TEXT, IMAGE',
    ),
    "small k": (
        {"prompt": "x", "image_size": "2k"},
        'image_size: got "2k"; allowed: 512, 1K, 2K, 4K',
    ),
    "empty text": (
        {"prompt": ""},
        'prompt: got ""; must not be empty: fill it in, or leave it out',
    ),
    "empty list": ({"parts": []}, "parts: got []; must not be empty: fill it in, or leave it out"),
    "too small": ({"prompt": "x", "variants": 0}, "variants: got 0; must be 1 or more"),
    "too large": ({"prompt": "x", "variants": 1001}, "variants: got 1001; must be 1,000 or less"),
    "a long value": (
        {"prompt": "x", "seed": "y" * 500},
        f'seed: got "{"y" * 39}… (502 characters); must be a whole number',
    ),
    "no prompt": ({"id": "a"}, f"{ASK}; got none of them"),
    "prompt and parts": (
        {"prompt": "x", "parts": [{"text": "y"}]},
        f'{ASK}; got "prompt" and "parts"',
    ),
    "images beside parts": (
        {"parts": [{"text": "x"}], "images": ["a.png"]},
        '"images" goes with "prompt"; with "parts", put the images in there',
    ),
    "a part that is both": (
        {"parts": [{"text": "x", "image": "a.png"}]},
        'parts[0]: needs exactly one of "text" and "image"',
    ),
    "a field beside request": (
        {"request": {"contents": []}, "seed": 1},
        '"request" is sent unchanged: put "seed" into it, or leave it out',
    ),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_named_with_what_was_found_and_what_is_allowed(name: str) -> None:
    """Every kind of bad line is refused with its place, the found value, and the allowed ones."""
    line, message = BAD_LINES[name]
    assert refusal({"prompt": "right"}, line) == [f"jobs.jsonl:2: {message}"]


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
    """An id that would leave the output folder, or that some file system does not take, is refused with the reason."""
    found = json.dumps(job_id)
    assert refusal({"id": job_id, "prompt": "x"}) == [
        f"jobs.jsonl:1: id: got {found}; {BAD_IDS[job_id]}"
    ]


def test_long_id_is_refused() -> None:
    """An id is at most 200 bytes, 150 of them between two slashes, counted in UTF-8."""
    found = 'got "' + "é" * 39 + "… (302 characters)"
    limits = "allowed: 200, and 150 in one part: choose a shorter one"
    expected = f"jobs.jsonl:1: id: {found}; it has 600 bytes, 600 of them in one part; {limits}"
    assert refusal({"id": "é" * 300, "prompt": "x"}) == [expected]
    assert ids.fault("x" * 151) is not None
    assert ids.fault("/".join(["x" * 49] * 4)) is None
    assert ids.fault("/".join(["x" * 50] * 4)) is not None


def test_bad_key_is_named_as_the_person_wrote_it() -> None:
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
    """A line that could not be read does not hide what stands before it."""
    first, bad, again = {"id": "a", "prompt": "x"}, {"prompt": ""}, {"id": "a", "prompt": "y"}
    assert (
        refusal(first, bad, again)[1]
        == 'jobs.jsonl:3: id: got "a", which line 1 has; every id must be unique'
    )


def test_colliding_hashes_are_no_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ids whose hashes are equal are told apart by what stands in the file."""
    monkeypatch.setattr(reader, "fingerprint", lambda _: 1)
    assert ids_of({"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}) == ["a", "b"]


def test_a_line_with_two_faults_shows_both() -> None:
    """All that is wrong with a line is said at once."""
    assert refusal({"prompt": "x", "seed": "a", "zeed": 1}) == [
        'jobs.jsonl:1: seed: got "a"; must be a whole number',
        'jobs.jsonl:1: zeed: no such field; did you mean "seed"?',
    ]


def test_first_fifty_problems_are_shown_and_the_rest_counted() -> None:
    """A file full of mistakes gives fifty of them in the order of lines, and a count."""
    lines = refusal(*[{"prompt": ""}] * 1_234)
    assert len(lines) == SHOWN_PROBLEMS + 1
    assert lines[49].startswith("jobs.jsonl:50: prompt: ")
    assert lines[50] == "jobs.jsonl: and 1,184 more problems like these"


def test_problems_of_the_consumer_are_listed_in_line_order() -> None:
    """What planning finds with a job stands between what the scan finds before and after it."""
    path = written({"prompt": ""}, {"prompt": "x"}, {"prompt": ""})

    def check(manifest: Manifest) -> None:
        for number, _ in manifest.scan():
            manifest.problem(manifest.line(number), "images[0]", "is missing")

    with Manifest(path) as manifest, pytest.raises(ManifestError) as refused:
        check(manifest)
    assert [problem.line for problem in refused.value.problems] == [1, 2, 3]
    assert "jobs.jsonl:2: images[0]: is missing" in refused.value.lines()


@pytest.mark.parametrize("content", [b"", b"\n \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_manifest_without_jobs_is_refused(content: bytes) -> None:
    """A file without a job is a mistake, not a run with nothing to do."""
    assert refusal(content) == [
        'jobs.jsonl: has no jobs; write one per line, such as {"prompt": "A cute robot mascot"}'
    ]


def test_blank_lines_bom_and_crlf_are_fine() -> None:
    """What Windows editors leave behind is no mistake, and lines keep their numbers."""
    path = written(
        b'\xef\xbb\xbf{"id": "a", "prompt": "x"}\r',
        b"\r",
        b"  ",
        b' {"id": "b", "prompt": "y"} \r',
        b"",
    )
    with Manifest(path) as manifest:
        assert [(manifest.line(number), job.id) for number, job in manifest.scan()] == [
            (1, "a"),
            (4, "b"),
        ]
        assert [job.id for number in (0, 1) if (job := manifest.read(number))] == ["a", "b"]


def test_utf16_is_refused_once() -> None:
    """A file in UTF-16 is one mistake, not one a line."""
    path = Path("jobs.jsonl")
    path.write_text('{"prompt": "x"}\n' * 9, encoding="utf-16")
    with pytest.raises(ManifestError) as refused:
        scanned(path)
    assert refused.value.lines() == ["jobs.jsonl: is UTF-16; save it as UTF-8"]


def test_line_without_end_is_never_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line past the cap is passed over in blocks, and the lines after it are still checked."""
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(reader, "_BLOCK_BYTES", 4096)
    assert refusal({"prompt": "x"}, b'{"prompt": "' + b"x" * (3 << 20) + b'"}', {"prompt": ""}) == [
        "jobs.jsonl:2: longer than allowed: 1 MB per line; name images by path instead of inline data",
        'jobs.jsonl:3: prompt: got ""; must not be empty: fill it in, or leave it out',
    ]
    assert manifest_package.MAX_LINE_BYTES == 128 << 20


def test_line_of_just_the_cap_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap itself is allowed."""
    line = json.dumps({"id": "a", "prompt": "x"})
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", len(line) + 1)
    assert ids_of(line, "") == ["a"]
    monkeypatch.setattr(reader, "MAX_LINE_BYTES", len(line))
    assert refusal(line, "") == [
        "jobs.jsonl:1: longer than allowed: 0 MB per line; name images by path instead of inline data"
    ]


def opening(path: Path) -> str:
    """Return why a manifest can't be opened."""
    with pytest.raises(ManifestError) as refused:
        Manifest(path)
    return str(refused.value)


def test_file_that_is_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that is missing, a folder, a pipe or unreadable is refused with the reason, and nothing hangs."""
    Path("folder").mkdir()
    os.mkfifo("pipe")
    assert opening(Path("nowhere.jsonl")) == "nowhere.jsonl: there is no such file"
    assert opening(Path("folder")) == "folder: is a folder; name a JSONL file in it"
    assert (
        opening(Path("pipe"))
        == "pipe: is not a regular file; it is read more than once, so save it as a file first"
    )

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    assert opening(written({"prompt": "x"})) == "jobs.jsonl: can't be read: Permission denied"


# --- ids ---


def test_derived_ids_never_change() -> None:
    """The id of a line without one stays what it was in earlier versions: a finished job is not paid for again."""
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
    """Metadata, the number of variants, the order of keys and other lines change no derived id."""
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
    """A line that stands there three times is three jobs."""
    robot = {"prompt": "A robot"}
    base = ids_of(robot)[0]
    assert ids_of(robot, {"prompt": "other"}, robot, robot)[0::2] == [base, f"{base}-2"]
    path = written(robot, robot, {**robot, "variants": 2})
    with Manifest(path) as manifest:
        found = [job.id for _, job in manifest.scan()]
        assert found == [base, f"{base}-2", f"{base}-3"]
        assert [manifest.read(number).id for number in range(3)] == found  # type: ignore[union-attr]  # unchanged lines


def test_repeated_id_steps_over_one_that_is_taken() -> None:
    """`-2` that somebody wrote by hand is left to them."""
    base = ids_of({"prompt": "A robot"})[0]
    assert ids_of({"id": f"{base}-2", "prompt": "x"}, {"prompt": "A robot"}, {"prompt": "A robot"})[
        1:
    ] == [
        base,
        f"{base}-3",
    ]


def test_many_identical_lines_take_no_square_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each identical line looks up two ids at the most, however many came before it."""
    lookups = 0
    claim = Manifest._claim

    def counted(self: Manifest, call_id: str, number: int) -> int | None:
        nonlocal lookups
        lookups += 1
        return claim(self, call_id, number)

    monkeypatch.setattr(Manifest, "_claim", counted)
    found = ids_of(*['{"prompt": "x"}'] * 2_000)
    assert found[-1] == f"{found[0]}-2000"
    assert lookups <= 2 * 2_000


def test_google_batch_lines_run_unchanged() -> None:
    """A line of Google's Batch API is a job as it stands, in either spelling."""
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
    """An id is used in NFC, whichever way the editor wrote it."""
    assert ids_of({"id": "ico\u0302ne/e\u0301", "prompt": "x"}) == ["ic\u00f4ne/\u00e9"]


@given(st.text(max_size=12))
def test_allowed_ids_stay_inside_the_folder(job_id: str) -> None:
    """Whatever text is an id: if it is allowed, it is a relative path that never climbs and never names a folder itself."""
    if ids.fault(ids.normal(job_id)) is None and job_id:
        path = Path("images") / f"{job_id}.jpg"
        assert path.parts[0] == "images"
        assert not {"..", ".", ""} & set(path.parts)
        assert len(path.parts) == 2 + job_id.count("/")


# --- reading again ---


def test_read_returns_what_scan_yielded() -> None:
    """Every job reads the same when its turn comes."""
    path = written(
        {"prompt": "x"}, "", {"id": "a", "prompt": "y", "metadata": {"n": 1}}, {"prompt": "x"}
    )
    with Manifest(path) as manifest:
        jobs = dict(manifest.scan())
        assert len(jobs) == 3
        assert {number: manifest.read(number) for number in jobs} == jobs


def test_edited_line_is_noticed() -> None:
    """A line that was changed in place is None; the lines beside it still read."""
    path = written(*[{"id": f"{number}", "prompt": "xxxx"} for number in range(3)])
    with Manifest(path) as manifest:
        list(manifest.scan())
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(b"xxxx", 40))
            file.write(b"yyyy")
        assert [manifest.read(number) is None for number in range(3)] == [False, True, False]


def test_cut_manifest_is_noticed() -> None:
    """Lines that are not there any more are None."""
    path = written(*[{"id": f"{number}", "prompt": "x"} for number in range(3)])
    with Manifest(path) as manifest:
        list(manifest.scan())
        os.truncate(path, 40)
        assert [manifest.read(number) is None for number in range(3)] == [False, True, True]


def test_replaced_manifest_is_read_as_it_was() -> None:
    """A run goes on with the file that it has checked when an editor puts another one in its place."""
    path = written({"id": "a", "prompt": "x"})
    with Manifest(path) as manifest:
        list(manifest.scan())
        Path("new").write_text('{"id": "b", "prompt": "y"}')
        Path("new").replace(path)
        job = manifest.read(0)
    assert job is not None
    assert job.id == "a"


def test_lines_added_at_the_end_change_nothing() -> None:
    """A last line without a line break is still the same when somebody writes on after it."""
    path = written({"id": "a", "prompt": "x"})
    with Manifest(path) as manifest:
        list(manifest.scan())
        with path.open("a") as file:
            file.write('\n{"id": "b", "prompt": "y"}\n')
        assert manifest.read(0) is not None


def test_index_takes_24_bytes_a_job() -> None:
    """What stays in memory of a job is four numbers."""
    path = written(
        *[
            f'{{"id": "{number}", "prompt": "x"}}'
            for number in random.Random(1).sample(range(10**6), 500)
        ]
    )
    with Manifest(path) as manifest:
        list(manifest.scan())
        kept = [value for value in vars(manifest).values() if isinstance(value, array)]
        assert sum(len(values) * values.itemsize for values in kept) == 24 * 500
        assert len(manifest._taken) == 0


def test_closing_twice_does_nothing() -> None:
    """A manifest can be closed as often as one likes, and has no file open then."""
    manifest = Manifest(written({"prompt": "x"}))
    manifest.close()
    manifest.close()
    assert manifest._fd == -1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_depth_is_that_of_json(value: Any) -> None:
    """Depth is told as a parser would count it."""

    def depth(item: Any) -> int:
        children = (
            item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        )
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    padded = value
    for _ in range(problems.MAX_DEPTH - 3):
        padded = [padded]
    assert problems.is_too_deep(padded) == (depth(padded) > problems.MAX_DEPTH)
