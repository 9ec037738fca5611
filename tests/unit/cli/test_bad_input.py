"""Every kind of bad input and its message: place, what was found, what is allowed, what to do."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.client.interactive import InteractiveTransport
from gemini_batch.manifest import lines as manifest_lines
from tests.builders import png, tree

GOOD = {"id": "good", "prompt": "A robot"}
ONE_OBJECT = 'a line is one whole JSON object, such as {"prompt": "A cute robot mascot"}'
NO_JOBS = 'jobs.jsonl: has no jobs; write one per line, such as {"prompt": "A cute robot mascot"}'
FORMATS = "allowed: png, jpeg, webp, heic, heif, gif, avif: save it as one of these"
FIELDS = (
    "id, prompt, images, parts, request, system, aspect_ratio, image_size, modalities, seed, temperature, thinking, service_tier, model, "
    "variants, metadata"
)
ASK = 'needs exactly one of "prompt", "parts" and "request"'
UPLOAD = "upload it with the Files API and give its https:// URI"
INSIDE = "it is a path inside the output folder"


def with_id(job_id: str) -> bytes:
    """Return a line with this id."""
    return orjson.dumps({"id": job_id, "prompt": "x"})


def with_image(path: Any) -> bytes:
    """Return a line with this image."""
    return orjson.dumps({"prompt": "x", "images": [path]})


def lines(*jobs: dict[str, Any] | bytes) -> bytes:
    """Return the bytes of a manifest."""
    return b"".join((job if isinstance(job, bytes) else orjson.dumps(job)) + b"\n" for job in jobs)


JSONL = 'a manifest is JSONL, one job per line, such as {"prompt": "A cute robot mascot"}'
ARRAY = f"jobs.jsonl: is one JSON array; write its objects one per line (jq -c '.[]'): {JSONL}"
# Name → the manifest's bytes, and all that is said of them.
FILES: dict[str, tuple[bytes, list[str]]] = {
    "empty file": (b"", [NO_JOBS]),
    "blank lines alone": (b"\n \n\t\n", [NO_JOBS]),
    "a BOM alone": (b"\xef\xbb\xbf", [NO_JOBS]),
    "not UTF-8": (
        b'{"prompt": "caf\xe9"}',
        ["jobs.jsonl:1: not UTF-8: byte 0xe9 at column 16; save the file as UTF-8"],
    ),
    "UTF-16": ('{"prompt": "x"}\n'.encode("utf-16"), ["jobs.jsonl: is UTF-16; save it as UTF-8"]),
    "UTF-16 without a BOM": (
        '{"prompt": "x"}'.encode("utf-16-le"),
        ["jobs.jsonl: has NUL bytes, as UTF-16 has; save it as UTF-8"],
    ),
    "not JSON": (
        b"A cute robot\n",
        [
            f'jobs.jsonl:1: got "A cute robot" at column 1, which is not valid JSON (Expecting value); {ONE_OBJECT}'
        ],
    ),
    "cut off": (
        b'{"prompt": "x"',
        [
            f"jobs.jsonl:1: got the line's end at column 15, which is not valid JSON (Expecting ',' delimiter); {ONE_OBJECT}"
        ],
    ),
    "a comma at the end": (
        b'{"prompt": "x"},\n',
        ["jobs.jsonl:1: has a comma at its end: leave it out; no comma separates the lines"],
    ),
    "Python": (
        b"{'prompt': 'x'}\n",
        [
            f"jobs.jsonl:1: got \"'prompt': 'x'}}\" at column 2, which is Python and not JSON; {ONE_OBJECT}"
        ],
    ),
    "a JSON list over several lines": (
        b'[\n{"id": "a", "prompt": "x"}\n]\n',
        [ARRAY],
    ),
    "an array": (b'[{"prompt": "x"}]\n', [ARRAY]),
    "an array after a job": (
        lines(GOOD, b'[{"prompt":"x"}]'),
        [f'jobs.jsonl:2: got [{{"prompt":"x"}}]; {ONE_OBJECT}'],
    ),
    "NaN": (
        b'{"prompt": "x", "temperature": NaN}',
        ["jobs.jsonl:1: temperature: got NaN, which JSON does not have: leave it out"],
    ),
    "a number that is too large": (
        b'{"prompt": "x", "temperature": 1e999}',
        [
            "jobs.jsonl:1: temperature: got 1e999, a number that is too large; allowed: up to 1.7e308"
        ],
    ),
    "a duplicate id": (
        lines(GOOD, {"id": "good", "prompt": "x"}),
        ['jobs.jsonl:2: id: got "good", which line 1 has; every id must be unique'],
    ),
    "a duplicate id by case folding": (
        lines(GOOD, {"id": "Good", "prompt": "x"}),
        ['jobs.jsonl:2: id: got "Good", which line 1 has as "good"; every id must be unique'],
    ),
    "an id that a variant has": (
        lines({"id": "robot", "prompt": "x", "variants": 2}, {"id": "robot.2", "prompt": "x"}),
        ['jobs.jsonl:2: id: got "robot.2", which variant 2 of line 1 has; every id must be unique'],
    ),
    "a variant that an id has": (
        lines({"id": "robot.2", "prompt": "x"}, {"id": "robot", "prompt": "x", "variants": 2}),
        [
            'jobs.jsonl:2: variants: variant 2 would be "robot.2", which line 1 has; every id must be unique'
        ],
    ),
    "a lone surrogate": (
        b'{"prompt": "a\\ud800b"}',
        [
            "jobs.jsonl:1: prompt: got \\ud800 alone, half of a character; write both halves, or the character itself"
        ],
    ),
}

# Name → a line, and what is said of it.
LINES: dict[str, tuple[bytes, str]] = {
    "a missing image": (
        with_image("in/b.png"),
        'images[0]: got "in/b.png"; there is no such file: looked for {folder}/in/b.png',
    ),
    "an image at home": (
        with_image("~/b.png"),
        (
            'images[0]: got "~/b.png"; there is no such file: looked for {folder}/~/b.png; "~" is not the home folder here: '
            "write the whole path"
        ),
    ),
    "a folder as image": (with_image("in"), 'images[0]: got "in"; is a folder: name the files in it'),
    "a pipe as image": (with_image("pipe"), 'images[0]: got "pipe"; is not a regular file: save it as one first'),
    "an image that is text": (with_image("text.png"), f'images[0]: got "text.png"; is no image: it begins "Dear rea"; {FORMATS}'),
    "an image that is bytes": (
        with_image("bytes.png"),
        f'images[0]: got "bytes.png"; is no image: it begins 00 01 02 03 04 05 06 07; {FORMATS}',
    ),
    "a PDF": (with_image("a.pdf"), f'images[0]: got "a.pdf"; is a PDF; {FORMATS}'),
    "a web page": (with_image("page.jpg"), f'images[0]: got "page.jpg"; is a web page; {FORMATS}'),
    "an empty image": (
        with_image("empty.png"),
        'images[0]: got "empty.png"; the file is empty: save it again, or leave it out',
    ),
    "an image over the inline limit": (
        with_image("huge.png"),
        f'images[0]: got "huge.png" of 75.0 MB; allowed: 75 MB, which are 100 MB in the request: downscale it, or {UPLOAD}',
    ),
    "images over the inline limit together": (
        orjson.dumps({"prompt": "x", "images": ["large.png", "large.png"]}),
        (
            "images: got 106.7 MB of images in base64; allowed: 100 MB per request: downscale them, or upload them with the "
            "Files API and give their https:// URIs"
        ),
    ),
    "an image that can't be read": (
        with_image("locked.png"),
        'images[0]: got "locked.png"; can\'t be read: Permission denied ({folder}/locked.png)',
    ),
    "NUL in a path": (
        with_image("a\0.png"),
        "images[0]: got \"a\\u0000.png\"; a path can't have the character U+0000: leave it out",
    ),
    "a URI that is not fetched": (
        with_image("http://example.org/a.png"),
        'images[0]: got "http://example.org/a.png"; the API fetches https:// only: use that, or download the file and give its path',
    ),
    "an id that goes up": (with_id("../x"), f'id: got "../x"; {INSIDE}: no part of it may be "." or ".."'),
    "an absolute id": (with_id("/x"), f'id: got "/x"; {INSIDE}: leave the first "/" out'),
    "a drive letter": (with_id("C:x"), "id: got \"C:x\"; ':' can't be in a file's name: leave it out"),
    "a backslash": (with_id("a\\b"), "id: got \"a\\\\b\"; '\\' can't be in a file's name: leave it out"),
    "NUL in an id": (
        with_id("a\0b"),
        "id: got \"a\\u0000b\"; the character U+0000 can't be in a file's name: leave it out",
    ),
    "a trailing dot": (
        with_id("a."),
        'id: got "a."; no part of it may begin with a space, or end with a space or a dot',
    ),
    "a trailing slash": (
        with_id("a/"),
        'id: got "a/"; every part between slashes needs a name, as in "icons/robot"',
    ),
    "an id of 300 characters": (
        with_id("x" * 300),
        (
            f'id: got "{"x" * 39}… (302 characters); it has 300 bytes, 300 of them in one part; allowed: 200, and 150 in one '
            "part: choose a shorter one"
        ),
    ),
    "an unknown field, near one": (b'{"promt": "x"}', 'promt: no such field; did you mean "prompt"?'),
    "an unknown field of Google's": (b'{"prompt": "x", "aspectRatio": "1:1"}', 'aspectRatio: no such field; did you mean "aspect_ratio"?'),
    "an unknown field with a hyphen": (b'{"prompt": "x", "aspect-ratio": "1:1"}', 'aspect-ratio: no such field; did you mean "aspect_ratio"?'),
    "an unknown field": (b'{"prompt": "x", "zzz": 1}', f"zzz: no such field; known: {FIELDS}"),
    "the number of pictures by another name": (b'{"prompt": "x", "n": 2}', 'n: no such field; did you mean "variants"?'),
    "a size by another name": (b'{"prompt": "x", "size": "2K"}', 'size: no such field; did you mean "image_size"?'),
    "a number for a string": (b'{"prompt": 7}', 'prompt: got 7; must be a string: write "7"'),
    "a number for a choice": (b'{"prompt": "x", "image_size": 512}', 'image_size: got 512; must be a string: write "512"'),
    "a string for a list": (
        b'{"prompt": "x", "images": "a.png"}',
        'images: got "a.png"; must be a list: write ["a.png"]',
    ),
    "a string for a number": (b'{"prompt": "x", "seed": "7"}', 'seed: got "7"; must be a whole number'),
    "no choice": (b'{"prompt": "x", "image_size": "2k"}', 'image_size: got "2k"; did you mean "2K"? allowed: 512, 1K, 2K, 4K'),
    "no shape": (
        b'{"prompt": "x", "aspect_ratio": "16x9"}',
        'aspect_ratio: got "16x9"; did you mean "16:9"? allowed: 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9, 1:4, 4:1, 1:8, 8:1',
    ),
    "a shape of another model": (
        b'{"prompt": "x", "aspect_ratio": "8:1"}',
        (
            'aspect_ratio: got "8:1"; gemini-3-pro-image-preview offers 1:1, 16:9, 9:16, 4:3, 3:4, 5:4, 4:5, 2:3, 3:2, 21:9: use one of '
            'these, or write a raw "request"'
        ),
    ),
    "no variant": (b'{"prompt": "x", "variants": 0}', "variants: got 0; must be 1 or more"),
    "a request without contents": (b'{"request": {"generationConfig": {}}}', 'request: has no "contents": it must be a whole GenerateContentRequest'),
    "too many images": (
        orjson.dumps({"prompt": "x", "images": ["https://example.org/a.png"] * 15}),
        "images: got 15 images; allowed: 14 per request",
    ),
    "text alone": (b'{"prompt": "x", "modalities": ["TEXT"]}', 'modalities: got ["TEXT"]; must have "IMAGE" in it'),
    "an empty prompt": (b'{"prompt": ""}', 'prompt: got ""; must not be empty: fill it in, or leave it out'),
    "both id and key": (b'{"id": "a", "key": "b", "prompt": "x"}', 'key: is the same as "id": leave one of them out'),
    "too large a number": (b'{"prompt": "x", "temperature": 2.5}', "temperature: got 2.5; must be 2 or less"),
    "prompt and parts": (
        b'{"prompt": "x", "parts": [{"text": "y"}]}',
        f'{ASK}; got "prompt" and "parts"',
    ),
    "neither prompt nor parts": (b'{"id": "a"}', f"{ASK}; got none of them"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with files that are no images, and a transport that sends nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path.parent / "state"))
    monkeypatch.setattr(
        InteractiveTransport, "send", Mock(side_effect=AssertionError("nothing may be sent"))
    )
    (tmp_path / "in").mkdir()
    os.mkfifo("pipe")
    for name, content in {
        "text.png": b"Dear reader",
        "bytes.png": bytes(range(20)),
        "a.pdf": b"%PDF-1.7",
        "page.jpg": b"\n<!DOCTYPE html><html>",
        "empty.png": b"",
        "locked.png": png("x"),
    }.items():
        Path(name).write_bytes(content)
    for name, size_bytes in (("large.png", 40_000_000), ("huge.png", 75_000_001)):
        with Path(name).open("wb") as file:
            file.write(png("x"))
            file.truncate(size_bytes)
    return tmp_path


def all_files(folder: Path) -> set[str]:
    """Return the names of all that is below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refused(folder: Path, manifest: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what both commands say of a manifest: the same, with exit 3, nothing on stdout, and nothing written."""
    before = all_files(folder)
    said = []
    for command in ("plan", "run"):
        assert main([command, manifest, "--simulate"]) == 3
        printed = capsys.readouterr()
        assert printed.out == ""
        said.append(printed.err)
    assert said[0] == said[1]
    assert all_files(folder) == before
    assert all(line.startswith("gemini-batch: ") for line in said[0].splitlines())
    return [line.removeprefix("gemini-batch: ") for line in said[0].splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Exit 3 with exactly this text, nothing sent, and nothing written."""
    content, message = FILES[name]
    Path("jobs.jsonl").write_bytes(content)
    assert refused(folder, "jobs.jsonl", capsys) == message


@pytest.fixture
def _locked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make locked.png unreadable, also for the superuser."""
    opened = Path.open

    def open_(self: Path, *given: Any, **named: Any) -> Any:
        if self.absolute() == folder / "locked.png":
            raise PermissionError(13, "Permission denied")
        return opened(self, *given, **named)

    monkeypatch.setattr(Path, "open", open_)


@pytest.mark.usefixtures("_locked")
@pytest.mark.parametrize("name", LINES)
@pytest.mark.promise("valid")
def test_a_bad_line_is_refused(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Exit 3 with exactly this text and the line number; nothing is sent or written for any line."""
    line, message = LINES[name]
    Path("jobs.jsonl").write_bytes(lines(GOOD) + b"\n" + line)
    assert refused(folder, "jobs.jsonl", capsys) == [
        f"jobs.jsonl:3: {message.replace('{folder}', str(folder))}"
    ]


def test_a_line_that_is_too_long_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line over the limit is named, never read whole, and the lines behind it are still checked."""
    assert manifest_lines.MAX_LINE_BYTES == 128 << 20
    monkeypatch.setattr(manifest_lines, "MAX_LINE_BYTES", 2 << 20)
    Path("jobs.jsonl").write_bytes(lines({"prompt": "x" * (3 << 20)}, GOOD, {"promt": "x"}))
    assert refused(folder, "jobs.jsonl", capsys) == [
        "jobs.jsonl:1: longer than allowed: 2 MB per line; name images by path instead of inline data",
        'jobs.jsonl:3: promt: no such field; did you mean "prompt"?',
    ]


@pytest.fixture
def _denied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that cannot be opened, also by the superuser."""
    opened = os.open

    def open_(path: Any, *given: Any, **named: Any) -> int:
        if str(path) == "jobs.jsonl":
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **named)

    (folder / "jobs.jsonl").write_bytes(lines(GOOD))
    monkeypatch.setattr(os, "open", open_)


@pytest.mark.usefixtures("_denied")
@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (
            "pipe",
            "pipe: is not a regular file; it is read more than once, so save it as a file first",
        ),
        (
            "/dev/null",
            "/dev/null: is not a regular file; it is read more than once, so save it as a file first",
        ),
        ("in", "in: is a folder; name a JSONL file in it"),
        ("nowhere.jsonl", "nowhere.jsonl: there is no such file"),
        ("text.png/jobs.jsonl", "text.png/jobs.jsonl: can't be read: Not a directory"),
        ("jobs.jsonl", "jobs.jsonl: can't be read: Permission denied"),
    ],
)
def test_a_manifest_that_is_no_file_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], manifest: str, message: str
) -> None:
    """A pipe, a device, a folder, nothing at all, or a file that can't be read: one sentence, and nothing hangs."""
    said = []
    for command in ("plan", "run"):
        assert main([command, manifest, "--simulate", "--out", str(folder / "out")]) == 3
        said.append(capsys.readouterr().err)
    assert said == [f"gemini-batch: {message}\n"] * 2
    assert not (folder / "out").exists()


@pytest.mark.parametrize("manifest", ["nowhere.jsonl", "in", "a.pdf", "bad.jsonl"])
def test_without_a_key_the_manifest_comes_first(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    manifest: str,
) -> None:
    """Nothing could be sent with a key either: exit 3, with the manifest's problem."""
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    (folder / "bad.jsonl").write_bytes(b'{"prompt": ""}\n')
    (folder / "good.jsonl").write_bytes(b'{"prompt": "x"}\n')
    assert main(["run", manifest]) == 3
    assert capsys.readouterr().err.startswith(f"gemini-batch: {manifest}:")
    assert main(["run", "good.jsonl"]) == 6
    assert capsys.readouterr().err.startswith("gemini-batch: no key: ")


def test_an_unknown_field_of_requests_is_one_warning(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of many lines with it, `plan` names the first and their number, and only while they are to be sent."""
    new = {"contents": [{"parts": [{"text": "x"}]}], "futureField": 1}
    jobs: list[dict[str, Any]] = [
        GOOD,
        *({"id": f"n{number}", "request": new} for number in range(40)),
    ]
    (folder / "jobs.jsonl").write_bytes(lines(*jobs))
    assert main(["plan", "jobs.jsonl"]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith(
        "  warning jobs.jsonl:2: request.futureField: not a field that this version knows; it is sent as it stands, "
        "and may be refused (40 lines have it)\n"
    )
    assert printed.out.count("futureField") == 1
    assert main(["plan", "jobs.jsonl", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["unknown_fields"] == [
        {"field": "request.futureField", "jobs": 40, "first_line": 2}
    ]


def test_the_first_errors_are_shown_and_the_rest_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Problems of syntax, fields, ids and images are sorted by line."""
    bad = [
        [b"{", b'{"promt": "x"}', with_id(f"../{number}"), with_image("empty.png")]
        for number in range(20)
    ]
    Path("jobs.jsonl").write_bytes(lines(*(line for four in bad for line in four)))
    said = refused(folder, "jobs.jsonl", capsys)
    assert len(said) == 11
    assert [line.split(":")[1] for line in said[:10]] == [str(number) for number in range(1, 11)]
    assert said[10] == "jobs.jsonl: and 70 more problems like these"


def test_an_image_is_looked_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reference image of a thousand jobs is opened once; a blank line, a BOM, or the line ends of Windows are no mistakes."""
    Path("in/a.png").write_bytes(png("x"))
    opened, open_ = [], Path.open

    def noted(self: Path, *given: Any, **named: Any) -> Any:
        opened.append(self.name)
        return open_(self, *given, **named)

    monkeypatch.setattr(Path, "open", noted)
    jobs = [
        orjson.dumps({"id": f"{number}", "prompt": "x", "images": ["in/a.png"]})
        for number in range(1000)
    ]
    Path("jobs.jsonl").write_bytes(
        b"\xef\xbb\xbf\n" + lines(*jobs).replace(b"\n", b"\r\n") + b"\n\n"
    )
    assert main(["plan", "jobs.jsonl", "--simulate"]) == 0
    assert "1,000 calls" in capsys.readouterr().out
    assert opened.count("a.png") == 1
    assert "jobs.simulated" not in tree(folder)
