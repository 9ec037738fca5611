"""Rows as the gallery shows them."""

import os
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.gallery.entries import MAX_CHARS, Folders, entry, manifest_folder
from gemini_batch.gallery.thumbnails import Thumbnails
from gemini_batch.records import exact_json
from tests.builders import sha256
from tests.unit.gallery.folder import picture, place, row


@pytest.fixture
def folders(out: Path) -> Folders:
    """The output folder and the manifest's."""
    return Folders(out.resolve(), out.parent.resolve())


def show(folders: Folders, **fields: Any) -> dict[str, Any]:
    """Return the entry of a row with these fields."""
    return entry(row(**fields), folders, Thumbnails(folders.out))


def test_an_image_is_linked_next_to_the_page_and_has_a_thumbnail(folders: Folders) -> None:
    """The link is relative, so the folder can be moved; the thumbnail is named by what it shows."""
    file = place(folders.out, "images/icons/ä b#1?.png")
    [shown] = show(folders, images=[file])["images"]
    assert shown["href"] == "images/icons/%C3%A4%20b%231%3F.png"
    assert shown["thumbnail"] == file["sha256"]
    assert not shown["is_changed"]


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, (None, None, False)),
        ({"route": "interactive", "batch": None}, ("interactive", None, False)),
        (
            {"route": "batch", "batch": {"name": "batches/1", "key": "k"}, "is_smaller": True},
            ("batch", "batches/1", True),
        ),
        ({"route": 3, "batch": "batches/1", "is_smaller": "yes"}, (None, None, False)),
        ({"route": ["batch"], "batch": {"name": None}, "is_smaller": 1}, (None, None, False)),
    ],
)
def test_the_route_and_a_picture_that_is_smaller_are_shown(
    fields: dict[str, Any], shown: tuple[Any, ...], folders: Folders
) -> None:
    """The page says which calls a batch answered, and which of their pictures are smaller than was asked for."""
    found = show(folders, **fields)
    assert (found["route"], found["batch"], found["is_smaller"]) == shown


def test_a_link_can_not_be_anything_but_a_path(folders: Folders) -> None:
    """A file whose name begins like a script is still a file next to the page."""
    file = place(folders.out, "javascript:alert(1).png")
    [shown] = show(folders, images=[file])["images"]
    assert shown["href"] == "javascript%3Aalert%281%29.png"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "images/../../secret.png",
        "images/../images/real.png",
        "/etc/hostname",
        "//host/x.png",
        "file:///etc/hostname",
        "javascript:alert(1)",
        "images/gone.png",
        "images",
        "results.jsonl",
        "gallery.html",
        "images/nul\0.png",
        "images/" + "x" * 300 + ".png",
        "",
    ],
)
def test_a_path_that_is_no_image_of_this_folder_is_missing(folders: Folders, path: str) -> None:
    """No row makes the page link, or this program read, a file elsewhere."""
    place(folders.out.parent, "secret.png")
    place(folders.out, "gallery.html")
    place(folders.out, "results.jsonl")
    place(folders.out, "images/real.png")
    [shown] = show(folders, images=[{"path": path, "sha256": "0" * 64}])["images"]
    assert shown["is_missing"]
    assert "href" not in shown
    assert not list((folders.out / ".gemini_batch/thumbnails").iterdir())


def test_a_symbolic_link_that_leads_out_is_missing(folders: Folders) -> None:
    """Neither a linked file nor a linked folder lets the page out of its folder; a link that stays inside is fine."""
    place(folders.out.parent, "elsewhere/secret.png")
    place(folders.out, "images/real.png")
    (folders.out / "images/out.png").symlink_to(folders.out.parent / "elsewhere/secret.png")
    (folders.out / "linked").symlink_to(folders.out.parent / "elsewhere")
    (folders.out / "images/loop.png").symlink_to("loop.png")
    (folders.out / "images/in.png").symlink_to("real.png")
    paths = ("images/out.png", "linked/secret.png", "images/loop.png", "images/in.png")
    shown = show(folders, images=[{"path": path, "sha256": ""} for path in paths])["images"]
    assert ["is_missing" in image for image in shown] == [True, True, True, False]


def test_a_pipe_is_not_waited_for(folders: Folders) -> None:
    """Anything but a regular file counts as missing, and is not waited for."""
    (folders.out / "images").mkdir()
    os.mkfifo(folders.out / "images/pipe.png")
    os.mkfifo(folders.out.parent / "pipe.png")
    shown = show(
        folders, images=[{"path": "images/pipe.png"}], inputs=[{"path": "pipe.png", "sha256": None}]
    )
    assert shown["images"][0]["is_missing"]
    assert shown["inputs"][0]["is_missing"]


def test_an_input_is_found_from_the_manifest_and_linked_from_the_page(folders: Folders) -> None:
    """Inputs are relative to the manifest, outside the output folder."""
    file = place(folders.out.parent, "inputs/lake.png")
    [shown] = show(folders, inputs=[{"path": "inputs/lake.png", "sha256": file["sha256"]}])[
        "inputs"
    ]
    assert shown["href"] == "../inputs/lake.png"
    assert shown["thumbnail"] == file["sha256"]


def test_an_input_of_a_chain_is_the_picture_of_its_call(folders: Folders) -> None:
    """It is linked in the output folder, and marked once its call has another picture; no other file is."""
    file = place(folders.out, "images/icons/fox.png")
    place(folders.out.parent, "fox.png")
    sha256s = {"job:icons/fox": file["sha256"], "job:icons/owl": "00", "job:../../fox": "00"}
    given = [{"path": path, "sha256": sha256} for path, sha256 in sha256s.items()]
    fox, owl, outside = show(folders, inputs=given)["inputs"]
    assert (fox["path"], fox["href"]) == ("job:icons/fox", "images/icons/fox.png")
    assert not fox["is_changed"]
    assert owl["is_missing"]
    assert outside["is_missing"]
    given = [{"path": "job:icons/fox", "sha256": "00" * 32}]
    assert show(folders, inputs=given)["inputs"][0]["is_changed"]


def test_an_input_that_is_no_image_any_more_is_not_linked(folders: Folders) -> None:
    """A row can't make the page link a file that is not an image, such as a key."""
    (folders.out.parent / "id_rsa").write_text("secret", encoding="utf-8")
    place(folders.out.parent, "lake.png", b"not an image")
    shown = show(
        folders,
        inputs=[
            {"path": path, "sha256": None} for path in ("id_rsa", "lake.png", "gone.png", "\0")
        ],
    )
    assert all(file["is_missing"] for file in shown["inputs"])


@pytest.mark.parametrize(
    ("stored", "given"), [("e\u0301.png", "\u00e9.png"), ("\u00e9.png", "e\u0301.png")]
)
def test_an_input_in_another_normal_form_is_linked(
    folders: Folders, stored: str, given: str
) -> None:
    """What a run found by another spelling of its name, the gallery finds too."""
    place(folders.out.parent, stored)
    [shown] = show(folders, inputs=[{"path": given, "sha256": None}])["inputs"]
    assert shown["path"] == given
    assert "thumbnail" in shown


def test_numbers_of_metadata_are_shown_as_they_are(folders: Folders) -> None:
    """A number that no double holds is not rounded; data that is nested too deeply is left out."""
    metadata = exact_json.loads(b'{"n": 123456789012345678901234}')
    assert "123456789012345678901234" in show(folders, metadata=metadata)["metadata"]
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert show(folders, metadata={"a": deep})["metadata"] is None


def test_an_input_that_has_changed_says_so(folders: Folders) -> None:
    """An input that changed since it was sent is marked."""
    place(folders.out.parent, "lake.png", picture("red"))
    [shown] = show(folders, inputs=[{"path": "lake.png", "sha256": sha256(picture("blue"))}])[
        "inputs"
    ]
    assert shown["is_changed"]
    assert shown["thumbnail"] == sha256(picture("red"))


@pytest.mark.parametrize(
    "uri",
    ["https://host/lake.png", "gs://bucket/lake.png", "javascript:alert(1)", "data:text/html,x"],
)
def test_an_input_at_a_uri_is_text_without_a_link(folders: Folders, uri: str) -> None:
    """The page leads to no network."""
    [shown] = show(folders, inputs=[{"path": uri, "sha256": None}])["inputs"]
    assert shown == {"path": uri, "is_remote": True}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"status": "blocked", "finish_reason": "SAFETY", "finish_message": "No."},
            ("SAFETY", "No."),
        ),
        ({"status": "blocked", "block_reason": "PROHIBITED_CONTENT"}, ("PROHIBITED_CONTENT", None)),
        (
            {
                "status": "failed",
                "error": {"http_status": 503, "status": "UNAVAILABLE", "message": "Overloaded."},
            },
            ("503 UNAVAILABLE", "Overloaded."),
        ),
        (
            {
                "status": "failed",
                "error": {"http_status": None, "status": "TIMEOUT", "message": "x"},
            },
            ("TIMEOUT", "x"),
        ),
        ({"status": "succeeded"}, (None, None)),
    ],
)
def test_why_there_is_no_picture(
    folders: Folders, fields: dict[str, Any], expected: tuple[str | None, str | None]
) -> None:
    """A call without a picture says why, with the name and message of the server."""
    shown = show(folders, **fields)
    assert (shown["reason"], shown["message"]) == expected


def test_a_field_of_another_kind_is_left_out(folders: Folders) -> None:
    """A row that was edited or written by a later version can't break the page."""
    odd: dict[str, Any] = {
        "prompt": ["x"],
        "usage": "x",
        "cost_usd": "free",
        "latency_s": True,
        "inputs": "x",
        "error": "x",
        "line": {},
        "model": 3,
        "finished_at": 12,
        "status": "failed",
    }
    shown = show(folders, **odd)
    assert [
        shown[name] for name in ("prompt", "cost_usd", "latency_s", "line", "model", "finished_at")
    ] == [None] * 6
    assert shown["inputs"] == []
    assert shown["tokens"]["total"] is None


def test_the_service_tier_is_shown(folders: Folders) -> None:
    """As the row has it; what is no text is left out."""
    for value, shown in (("flex", "flex"), (None, None), (7, None), ("", None)):
        assert show(folders, service_tier=value)["service_tier"] == shown


def test_a_long_text_is_cut_and_says_so(folders: Folders) -> None:
    """A text of megabytes does not make a page of gigabytes."""
    shown = show(folders, prompt="x" * (MAX_CHARS + 1), metadata={"x": "y" * 10_000})
    assert shown["prompt"].endswith("(truncated; the full text is in results.jsonl)")
    assert len(shown["prompt"]) < MAX_CHARS + 100
    assert len(shown["metadata"]) < MAX_CHARS + 100


@pytest.mark.parametrize(
    ("manifest", "given_out"),
    [
        ("jobs.jsonl", "jobs.out"),
        ("./jobs.jsonl", "./jobs.out/"),
        ("/gone/jobs.jsonl", "/gone/jobs.out"),
    ],
)
def test_the_manifest_is_found_next_to_the_folder(out: Path, manifest: str, given_out: str) -> None:
    """It is found from any working folder, and when both were moved together."""
    assert manifest_folder(out, {"manifest": manifest, "out": given_out}) == out.parent.resolve()


@pytest.mark.parametrize("manifest", ["gone.jsonl", None, 3, "nul\0", "", "jobs.out", "x" * 5_000])
def test_a_manifest_that_is_not_there_is_none(out: Path, manifest: object) -> None:
    """Without its manifest no input is looked for anywhere."""
    assert manifest_folder(out, {"manifest": manifest, "out": "jobs.out"}) is None


def test_an_absolute_manifest_is_found_when_the_folder_was_moved(tmp_path: Path, out: Path) -> None:
    """`--out` elsewhere, then moved: the manifest is still where it was."""
    moved = out.rename(tmp_path.parent / f"{tmp_path.name}-moved.out")
    given = {"manifest": str(tmp_path / "jobs.jsonl"), "out": "/gone/jobs.out"}
    assert manifest_folder(moved, given) == tmp_path.resolve()
