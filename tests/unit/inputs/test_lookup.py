import hashlib
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from gemini_batch.inputs import InputImageError, Inputs, lookup
from gemini_batch.records import InputImage, InputUri, media_types

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 9
FORMATS = "allowed: png, jpeg, webp, heic, heif, gif, avif: save it as one of these"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with one image."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(PNG)
    return tmp_path


def refusal(folder: Path, path: str) -> str:
    """Return the error of an image that can't be used."""
    with pytest.raises(InputImageError) as refused:
        Inputs(folder).resolve(path)
    return str(refused.value)


@pytest.mark.parametrize("absolute", [False, True])
def test_image_is_known_by_its_content(folder: Path, absolute: bool) -> None:  # noqa: FBT001 - a parameter of a test
    """A path relative to the manifest, or absolute, gives the file's type by its bytes, its size, time and hash."""
    file = folder / "in" / "a.jpg"
    path = str(file) if absolute else "in/a.jpg"
    assert Inputs(folder).resolve(path) == InputImage(
        path=path,
        file=str(file),
        mime_type="image/png",
        size_bytes=len(PNG),
        mtime_ns=file.stat().st_mtime_ns,
        sha256=hashlib.sha256(PNG).hexdigest(),
    )


def test_path_does_not_depend_on_the_current_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths start at the manifest, also after the current folder changes."""
    monkeypatch.chdir(folder)
    known = Inputs(Path("in"))
    monkeypatch.chdir("/")
    image = known.resolve("a.jpg")
    assert isinstance(image, InputImage)
    assert image.file == str(folder / "in" / "a.jpg")


@pytest.mark.parametrize(
    ("stored", "given"),
    [
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("u\u0308ber/\u00e4.png", "u\u0308ber/\u00e4.png"),
        (
            "A\u030angstro\u0308m/\ud55c.png".replace("\ud55c", "\u1112\u1161\u11ab"),
            "\u00c5ngstr\u00f6m/\ud55c.png",
        ),
    ],
)
def test_a_name_in_another_normal_form_is_found(tmp_path: Path, stored: str, given: str) -> None:
    """A file that macOS or an archive named in NFD is found by a manifest in NFC, and the other way round."""
    file = tmp_path / stored
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(PNG)
    image = Inputs(tmp_path).resolve(given)
    assert isinstance(image, InputImage)
    assert (image.path, image.file) == (given, str(file))


def test_the_given_form_comes_first(tmp_path: Path) -> None:
    """If both files exist, the manifest's own spelling decides; another error of it is not hidden."""
    for name in ("caf\u00e9.png", "cafe\u0301.png"):
        (tmp_path / name).write_bytes(PNG)
        image = Inputs(tmp_path).resolve(name)
        assert isinstance(image, InputImage)
        assert image.file == str(tmp_path / name)
    assert refusal(tmp_path, "th\u00e9.png").startswith(
        f'got "th\u00e9.png"; there is no such file: looked for {tmp_path}/th\u00e9.png'
    )
    (tmp_path / "e\u0301").mkdir()
    assert "is a folder" in refusal(tmp_path, "\u00e9")


def test_a_deleted_current_folder_is_a_missing_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no current folder, a relative path leads to no file, and an absolute one does."""
    gone = tmp_path / "gone"
    gone.mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "there is no such file" in refusal(Path("in"), "a.png")
    assert isinstance(Inputs(Path()).resolve(str(tmp_path / "a.png")), InputImage)
    monkeypatch.chdir(tmp_path)


def test_file_is_hashed_once_while_it_stays_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same reference image in many jobs is read once; one that changed is read again."""
    hashed = Mock(wraps=hashlib.file_digest)
    monkeypatch.setattr(hashlib, "file_digest", hashed)
    known = Inputs(folder)
    first = known.resolve("in/a.jpg")
    assert known.resolve("in/a.jpg") is first
    assert hashed.call_count == 1
    file = folder / "in" / "a.jpg"
    before = file.stat()
    file.write_bytes(PNG[:-1] + b"!")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert known.resolve("in/a.jpg") != first
    assert hashed.call_count == 2


def test_replaced_file_of_same_size_and_time_is_noticed(folder: Path) -> None:
    """Another file of the same path, size and time differs by its inode."""
    known, file = Inputs(folder), folder / "in" / "a.jpg"
    first, status = known.resolve("in/a.jpg"), file.stat()
    other = folder / "other"
    other.write_bytes(PNG[:-1] + b"!")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    assert known.resolve("in/a.jpg") != first


def test_memory_of_files_is_bounded() -> None:
    """Files beyond a number are forgotten, and hashed again when they are used."""
    assert lookup._image.cache_info().maxsize == 40_000
    assert lookup._recent_image.cache_info().maxsize == 1_000


def test_files_that_are_used_once_take_no_place(folder: Path) -> None:
    """Brief look-ups, as of the pictures of chains, leave those of the manifest's files alone."""
    lookup._image.cache_clear()
    Inputs(folder, is_brief=True).resolve("in/a.jpg")
    assert lookup._image.cache_info().currsize == 0


def test_uris_pass_with_the_type_their_name_promises() -> None:
    """URIs that the API fetches itself are not opened."""
    known = Inputs(Path())
    for uri, mime_type in {
        "https://example.org/a/b.PNG?size=1": "image/png",
        "gs://bucket/a.jpeg": "image/jpeg",
        "https://generativelanguage.googleapis.com/v1beta/files/abc": None,
    }.items():
        assert known.resolve(uri) == InputUri(uri=uri, mime_type=mime_type)


BAD_URIS = {
    "http://example.org/a.png": "the API fetches https:// only: use that, or download the file and give its path",
    "file:///a.png": "give the path without file://",
    "data:image/png;base64,AA": 'save it as a file and give its path, or put it into a raw "request"',
    "ftp://example.org/a.png": "allowed: a path, https://, gs://, s3:// or az://",
    "https://": "not a valid URI: needs a host, and no blanks",
    "https://example.org/a b": "not a valid URI: needs a host, and no blanks",
    "https://[": "not a valid URI",
}


@pytest.mark.parametrize("uri", BAD_URIS)
def test_uri_that_the_api_cannot_fetch_is_refused(uri: str) -> None:
    """A URI of another kind is refused with what to do instead."""
    assert refusal(Path(), uri) == f'got "{uri}"; {BAD_URIS[uri]}'


def test_missing_image_says_where_it_was_looked_for(folder: Path) -> None:
    """A missing file is named with the whole path, because relative ones are relative to the manifest."""
    expected = f'got "b.png"; there is no such file: looked for {folder}/b.png'
    assert refusal(folder, "b.png") == expected


def test_folder_and_device_are_no_images(folder: Path) -> None:
    """A folder and a pipe are refused, and nothing hangs."""
    os.mkfifo(folder / "pipe")
    assert refusal(folder, "in") == 'got "in"; is a folder: name the files in it'
    assert refusal(folder, "pipe") == 'got "pipe"; is not a regular file: save it as one first'


def test_file_that_is_no_image_is_refused(folder: Path) -> None:
    """The name is never trusted; the message names the kind of file by its first bytes."""
    for content, kind in {
        b"%PDF-1.7 and so on": "a PDF",
        b'\xef\xbb\xbf<svg xmlns="x">': "an SVG",
        b'<?xml version="1.0"?>': "XML, an SVG perhaps",
        b"\n  <!DOCTYPE html>": "a web page",
        b"BM" + bytes(50): "a BMP",
        b"II*\0" + bytes(50): "a TIFF",
        b"MM\0*" + bytes(50): "a TIFF",
        b"PK\3\4": "a ZIP file",
        b"version https://git-lfs.github.com/spec/v1": (
            "a Git LFS pointer to a file that was not fetched (git lfs pull)"
        ),
        b"Dear reader": 'no image: it begins "Dear rea"',
        b"\x89PN": "no image: it begins 89 50 4e",
        b"a\nb": "no image: it begins 61 0a 62",
    }.items():
        (folder / "a.png").write_bytes(content)
        assert refusal(folder, "a.png") == f'got "a.png"; is {kind}; {FORMATS}'


def test_empty_image_is_refused(folder: Path) -> None:
    """An empty file is refused as empty."""
    (folder / "a.png").touch()
    assert (
        refusal(folder, "a.png") == 'got "a.png"; the file is empty: save it again, or leave it out'
    )


def test_image_over_the_inline_limit_is_refused_unread(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file with more than 100 MB of base64 is refused by its size."""
    monkeypatch.setattr(Path, "open", None)
    with open(folder / "big.png", "wb") as file:  # noqa: PTH123 - Path.open is gone here
        file.truncate(75_000_003)
    assert refusal(folder, "big.png") == (
        'got "big.png" of 75.0 MB; allowed: 75 MB, which are 100 MB in the request: '
        "downscale it, or upload it with the Files API and give its https:// URI"
    )


def test_unreadable_image_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's reason is in the message."""

    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert (
        refusal(folder, "in/a.jpg")
        == f'got "in/a.jpg"; can\'t be read: Permission denied ({folder}/in/a.jpg)'
    )


def test_path_with_nul_is_refused(folder: Path) -> None:
    """A NUL in a path is a message, not a crash."""
    assert (
        refusal(folder, "a\0b")
        == 'got "a\\u0000b"; a path can\'t have the character U+0000: leave it out'
    )


def test_file_that_changes_while_it_is_hashed_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written file is not sent."""
    file, digest = folder / "in" / "a.jpg", hashlib.file_digest

    def slow(*given: object) -> object:
        with file.open("ab") as more:
            more.write(b"more")
        return digest(*given)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(hashlib, "file_digest", slow)
    expected = 'got "in/a.jpg"; changed while it was read: run again when it is complete'
    assert refusal(folder, "in/a.jpg") == expected


def test_limit_is_that_of_a_request() -> None:
    """The largest file that passes alone fills a request to the last byte."""
    assert media_types.base64_bytes(75_000_000) == media_types.MAX_INLINE_BYTES
