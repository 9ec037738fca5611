"""The gallery as a file, and the command that writes it."""

import re
from argparse import Namespace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import gallery as command
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.gallery.writer import write_gallery
from tests.builders import sha256
from tests.unit.gallery.folder import picture, place, row, write_rows


def block(out: Path, name: str) -> Any:
    """Return the data of one JSON block of the page."""
    page = (out / "gallery.html").read_text(encoding="utf-8")
    found = re.search(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL
    )
    assert found
    return orjson.loads(found[1])


def test_the_totals_are_those_of_the_newest_rows(out: Path) -> None:
    """Totals are of the newest rows, with the cost of all rows; an unknown cost is not 0."""
    image = place(out, "images/a.png")
    write_rows(
        out,
        row("a", cost_usd=9.0, status="failed", finished_at="2026-11-20T12:00:00Z"),
        row("a", images=[image]),
        row("b", status="blocked", cost_usd=None, usage=None, finished_at="2026-11-21T12:00:00Z"),
        row(
            "c",
            images=[{"path": "images/c.png", "sha256": "", "size_bytes": 1}],
            endpoint="simulator",
        ),
    )
    written = write_gallery(out)
    totals = block(out, "about")["totals"]
    assert totals == {
        "calls": 3,
        "shown": 3,
        "pictures": 2,
        "missing": 1,
        "tokens": 2600,
        "cost_usd": 0.5,
        "unpriced": 1,
        "all_rows": {"cost_usd": 9.5, "unpriced": 1},
        "simulated": 1,
        "first_at": "2026-11-21T12:00:00Z",
        "last_at": "2026-11-22T12:00:00Z",
    }
    assert (written.calls, written.shown, written.pictures, written.missing) == (3, 3, 2, 1)
    assert written.size_bytes == (out / "gallery.html").stat().st_size
    assert [call["id"] for call in block(out, "calls")] == ["a", "b", "c"]


def test_of_too_many_calls_the_newest_are_shown_and_all_are_counted(out: Path) -> None:
    """A page stays one that a browser can open, and does not hide that there is more."""
    write_rows(out, *(row(f"n{number}") for number in range(10)))
    written = write_gallery(out, max_shown=3)
    assert [call["id"] for call in block(out, "calls")] == ["n7", "n8", "n9"]
    assert (written.calls, written.shown) == (10, 3)
    assert block(out, "about")["totals"]["calls"] == 10


def test_few_thumbnails_are_embedded_and_many_linked(out: Path) -> None:
    """A small gallery is one file that can be mailed; a large one stays small."""
    files = [place(out, f"images/{name}.png", picture(name)) for name in ("red", "blue")]
    write_rows(out, *(row(file["path"], images=[file]) for file in files))
    write_gallery(out, max_embedded=2)
    inside = block(out, "thumbnails")
    assert set(inside) == {file["sha256"] for file in files}
    assert all(uri.startswith("data:image/webp;base64,") for uri in inside.values())
    write_gallery(out, max_embedded=1)
    assert block(out, "thumbnails") == {}
    about = block(out, "about")["thumbnails"]
    assert all(
        (out / (about["folder"] + file["sha256"] + about["suffix"])).exists() for file in files
    )


def test_rows_stay_in_order_however_long_pictures_take(out: Path) -> None:
    """Thumbnails are made side by side; the order of rows does not depend on which is ready first."""
    files = [
        place(out, f"images/{n}.png", picture(size=(3000 if n % 7 == 0 else 8, 8 + n)))
        for n in range(40)
    ]
    write_rows(out, *(row(str(number), images=[file]) for number, file in enumerate(files)))
    seen: list[tuple[int, int]] = []
    write_gallery(out, observe=lambda done, of: seen.append((done, of)))
    assert [call["images"][0]["thumbnail"] for call in block(out, "calls")] == [
        file["sha256"] for file in files
    ]
    assert seen == [(number, 40) for number in range(1, 41)]


def test_hostile_text_stays_inside_its_block(out: Path) -> None:
    """With hostile prompts, ids, paths and models the page still has exactly four script elements."""
    evil = "</script><script>alert(1)</script>\u2028<!--<script>"
    write_rows(
        out,
        row(
            evil,
            prompt=evil,
            text=evil,
            model=evil,
            images=[{"path": evil, "sha256": evil, "size_bytes": 1}],
            metadata={evil: evil},
        ),
    )
    write_gallery(out)
    page = (out / "gallery.html").read_text(encoding="utf-8")
    assert (
        len(re.findall("<script", page, re.IGNORECASE))
        == len(re.findall("</script", page, re.IGNORECASE))
        == 4
    )
    assert block(out, "calls")[0]["prompt"] == evil


def test_a_gallery_that_fails_leaves_the_last_one(out: Path) -> None:
    """The page is replaced whole or not at all, and nothing half-written is left."""
    write_rows(out, row())
    write_gallery(out)
    last = (out / "gallery.html").read_bytes()
    with (out / "results.jsonl").open("ab") as file:
        file.write(b"damaged\n{}\n")
    with pytest.raises(StorageError, match="not a row"):
        write_gallery(out)
    assert (out / "gallery.html").read_bytes() == last
    assert {path.name for path in (out / ".gemini_batch").iterdir()} == {"thumbnails"}


def test_a_page_that_can_not_be_written_is_a_sentence(out: Path) -> None:
    """A full or read-only disk ends with a message."""
    write_rows(out, row())
    (out / "gallery.html").mkdir()
    with pytest.raises(StorageError, match=r"gallery\.html: can't be written"):
        write_gallery(out)


def test_rows_that_can_not_be_read_are_a_sentence(out: Path) -> None:
    """A read error names the folder, before anything is written."""
    (out / "results.jsonl").mkdir()
    with pytest.raises(StorageError, match="can't be read"):
        write_gallery(out)
    assert not (out / ".gemini_batch").exists()


@pytest.mark.parametrize("summary", [b"", b"[]", b"{broken", b'{"manifest": 3}'])
def test_a_summary_that_is_none_costs_only_the_inputs(out: Path, summary: bytes) -> None:
    """A gallery can be made during a run, or after a killed one."""
    (out / "summary.json").write_bytes(summary)
    write_rows(out, row(inputs=[{"path": "lake.png", "sha256": sha256(picture())}]))
    write_gallery(out)
    assert block(out, "calls")[0]["inputs"][0]["is_missing"]


def test_the_command_says_where_the_page_is(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the user, one object for a program."""
    write_rows(
        out,
        row(images=[place(out, "images/a.png")]),
        row("b", images=[{"path": "gone.png", "sha256": "", "size_bytes": 1}]),
    )
    assert command.main(Namespace(out=out, json=False, embed=False)) == 0
    assert re.fullmatch(
        rf"{out}/gallery\.html: 2 calls · 2 pictures · 1 of them missing · 0\.\d MB\n",
        capsys.readouterr().out,
    )
    assert command.main(Namespace(out=out, json=True, embed=False)) == 0
    found = orjson.loads(capsys.readouterr().out)
    assert found["path"] == str(out / "gallery.html")
    assert (found["calls"], found["missing"]) == (2, 1)


def test_a_folder_of_no_run_is_named(tmp_path: Path) -> None:
    """A wrong folder is an error, not an empty gallery, and nothing is written into it."""
    with pytest.raises(ConfigError, match=r"has no results\.jsonl"):
        command.main(Namespace(out=tmp_path, json=False, embed=False))
    assert not list(tmp_path.iterdir())
