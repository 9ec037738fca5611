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
from gemini_batch.manifest import SHOWN_PROBLEMS, Manifest, job_line
from gemini_batch.manifest import lines as lines_module
from tests.unit.manifest.lines import carefully, ids_found, ids_of, refusal, scanned, written

ONE_OBJECT = 'a line is one whole JSON object, such as {"prompt": "A cute robot mascot"}'
FIELDS = (
    "id, prompt, images, parts, request, system, aspect_ratio, image_size, modalities, seed, temperature, thinking, service_tier, model, "
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
        "temperature: got NaN, which JSON does not have: leave it out",
    ),
    "deeper than can be read": (
        b"[" * 2000 + b"]" * 2000,
        "nested too deeply; allowed: 240 levels",
    ),
    "deeper than can be written": (
        b'{"prompt": "x", "metadata": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}",
        "nested too deeply; allowed: 240 levels",
    ),
    "a request without id, deeper than can be written": (
        b'{"request": {"contents": ' + b"[" * 300 + b"]" * 300 + b"}}",
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
    "no whole number": ({"prompt": "x", "seed": 7.5}, "seed: got 7.5; must be a whole number"),
    "no number": ({"prompt": "x", "temperature": "1"}, 'temperature: got "1"; must be a number'),
    "no object": ({"prompt": "x", "metadata": [1]}, "metadata: got [1]; must be an object"),
    "part that is no object": ({"parts": [3]}, "parts[0]: got 3; must be an object"),
    "not a choice": (
        {"prompt": "x", "aspect_ratio": "4:5x"},
        'aspect_ratio: got "4:5x"; allowed: 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9, 1:4, 4:1, 1:8, 8:1',
    ),
    "not a choice, in a list": (
        {"prompt": "x", "modalities": ["image"]},
        'modalities[0]: got "image"; did you mean "IMAGE"? allowed: TEXT, IMAGE',
    ),
    "small k": (
        {"prompt": "x", "image_size": "2k"},
        'image_size: got "2k"; did you mean "2K"? allowed: 512, 1K, 2K, 4K',
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
    "images with parts": (
        {"parts": [{"text": "x"}], "images": ["a.png"]},
        '"images" goes with "prompt"; with "parts", put the images in there',
    ),
    "a part that is both": (
        {"parts": [{"text": "x", "image": "a.png"}]},
        'parts[0]: needs exactly one of "text" and "image"',
    ),
    "a field with request": (
        {"request": {"contents": []}, "seed": 1},
        '"request" is sent unchanged: put "seed" into it, or leave it out',
    ),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_bad_line_is_explained(name: str) -> None:
    """Every kind of bad line is refused with its place, the found value, and the allowed ones."""
    line, message = BAD_LINES[name]
    assert refusal({"prompt": "right"}, line) == [f"jobs.jsonl:2: {message}"]


def test_a_line_with_two_faults_shows_both() -> None:
    """All problems of a line are reported at once."""
    assert refusal({"prompt": "x", "seed": "a", "zeed": 1}) == [
        'jobs.jsonl:1: seed: got "a"; must be a whole number',
        'jobs.jsonl:1: zeed: no such field; did you mean "seed"?',
    ]


def test_first_problems_are_shown_and_the_rest_counted() -> None:
    """A file full of mistakes shows ten of them in the order of lines, and a count."""
    lines = refusal(*[{"prompt": ""}] * 1_234)
    assert len(lines) == SHOWN_PROBLEMS + 1
    assert lines[9].startswith("jobs.jsonl:10: prompt: ")
    assert lines[10] == "jobs.jsonl: and 1,224 more problems like these"


def test_problems_of_the_consumer_are_listed_in_line_order() -> None:
    """Problems of planning are listed among those of the scan."""
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
    """Files of Windows editors are valid, and lines keep their numbers."""
    path = written(
        b'\xef\xbb\xbf{"id": "a", "prompt": "x"}\r',
        b"\r",
        b"  ",
        b' {"id": "b", "prompt": "y"} \r',
        b"",
    )
    with Manifest(path) as manifest:
        assert [(manifest.line(index), job_id) for index, job_id in ids_found(manifest)] == [
            (1, "a"),
            (4, "b"),
        ]
        assert [job.id for number in (0, 1) if (job := manifest.read(number))] == ["a", "b"]


def test_utf16_is_refused_once() -> None:
    """A file in UTF-16 is one problem, not one per line."""
    path = Path("jobs.jsonl")
    path.write_text('{"prompt": "x"}\n' * 9, encoding="utf-16")
    with pytest.raises(ManifestError) as refused:
        scanned(path)
    assert refused.value.lines() == ["jobs.jsonl: is UTF-16; save it as UTF-8"]


def test_line_without_end_is_never_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line over the limit is skipped in blocks, and the lines after it are still checked."""
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 1 << 20)
    monkeypatch.setattr(lines_module, "_BLOCK_BYTES", 4096)
    assert refusal({"prompt": "x"}, b'{"prompt": "' + b"x" * (3 << 20) + b'"}', {"prompt": ""}) == [
        "jobs.jsonl:2: longer than allowed: 1 MB per line; name images by path instead of inline data",
        'jobs.jsonl:3: prompt: got ""; must not be empty: fill it in, or leave it out',
    ]
    assert manifest_package.MAX_LINE_BYTES == 128 << 20


def test_line_at_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit itself is allowed."""
    line = json.dumps({"id": "a", "prompt": "x"})
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", len(line) + 1)
    assert ids_of(line, "") == ["a"]
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", len(line))
    assert refusal(line, "") == [
        "jobs.jsonl:1: longer than allowed: 0 MB per line; name images by path instead of inline data"
    ]


def opening(path: Path) -> str:
    """Return the reason why a manifest can't be opened."""
    with pytest.raises(ManifestError) as refused:
        Manifest(path)
    return str(refused.value)


def test_file_that_is_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder, a pipe and an unreadable file are refused, and nothing hangs."""
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


# --- reading again ---


def test_read_returns_what_scan_yielded() -> None:
    """A job that is read again equals the scanned one."""
    path = written(
        {"prompt": "x"}, "", {"id": "a", "prompt": "y", "metadata": {"n": 1}}, {"prompt": "x"}
    )
    with carefully(), Manifest(path) as manifest:
        jobs = dict(manifest.scan())
        assert len(jobs) == 3
        assert {number: manifest.read(number) for number in jobs} == jobs


def test_edited_line_is_noticed() -> None:
    """A line that was changed in place is None; the other lines are still read."""
    path = written(*[{"id": f"{number}", "prompt": "xxxx"} for number in range(3)])
    with Manifest(path) as manifest:
        list(manifest.scan())
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(b"xxxx", 40))
            file.write(b"yyyy")
        assert [manifest.read(number) is None for number in range(3)] == [False, True, False]


def test_cut_manifest_is_noticed() -> None:
    """Lines that are gone are None."""
    path = written(*[{"id": f"{number}", "prompt": "x"} for number in range(3)])
    with Manifest(path) as manifest:
        list(manifest.scan())
        os.truncate(path, 40)
        assert [manifest.read(number) is None for number in range(3)] == [False, True, True]


def test_replaced_manifest_is_read_as_it_was() -> None:
    """A run continues with the checked file when an editor replaces it."""
    path = written({"id": "a", "prompt": "x"})
    with Manifest(path) as manifest:
        list(manifest.scan())
        Path("new").write_text('{"id": "b", "prompt": "y"}')
        Path("new").replace(path)
        job = manifest.read(0)
    assert job is not None
    assert job.id == "a"


def test_lines_added_at_the_end_change_nothing() -> None:
    """A last line without a line break is the same after lines were appended."""
    path = written({"id": "a", "prompt": "x"})
    with Manifest(path) as manifest:
        list(manifest.scan())
        with path.open("a") as file:
            file.write('\n{"id": "b", "prompt": "y"}\n')
        assert manifest.read(0) is not None


def test_index_takes_24_bytes_a_job() -> None:
    """A job is kept in memory as four numbers."""
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
    """A manifest can be closed repeatedly, and has no file open then."""
    manifest = Manifest(written({"prompt": "x"}))
    manifest.close()
    manifest.close()
    assert manifest._file.closed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_depth_is_that_of_json(value: Any) -> None:
    """Depth is counted as a parser counts it."""

    def depth(item: Any) -> int:
        children = (
            item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        )
        return 0 if children is None else 1 + max(map(depth, children), default=0)

    padded = value
    for _ in range(job_line.MAX_DEPTH - 3):
        padded = [padded]
    assert job_line.is_too_deep(padded) == (depth(padded) > job_line.MAX_DEPTH)
