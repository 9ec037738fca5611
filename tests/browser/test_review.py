"""The review in a real Chromium: marks by keys, while a run is in progress, in two tabs, and after a reload."""

import asyncio
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from gemini_batch.gallery.review.server import ReviewServer
from gemini_batch.gallery.thumbnails import FOLDER
from gemini_batch.output import OutputFolder
from gemini_batch.output.marks import Marks
from gemini_batch.output.rows import newest_rows
from tests.browser.gallery import card, count, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no test in a browser"
)
from playwright.sync_api import Page, expect  # noqa: E402 # after the skip


class Served:
    """A review that is served by a thread."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._started.wait(30)

    async def _serve(self) -> None:
        server = ReviewServer(self.out)
        async with server.running():
            self.url = server.url
            self._started.set()
            await self._stop.wait()

    def end(self) -> None:
        """Stop the server."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture
def served(out: Path, tmp_path: Path) -> Iterator[Served]:
    """A review of a copy of the gallery's folder."""
    shutil.copytree(out, tmp_path / "jobs.out")
    served = Served(tmp_path / "jobs.out")
    yield served
    if served._thread.is_alive():  # unless the test ended it
        served.end()


@pytest.fixture
def review(browser: "Browser", served: Served) -> Iterator[Page]:
    """The page of the review; only its own script has run, without errors."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    context.set_default_timeout(5_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(served.url)
    yield page
    assert page.evaluate("window.sentinel") is None
    assert complaints == []
    context.close()


def choices(served: Served) -> dict[str, tuple[str | None, int | None]]:
    """Return the marks of the newest pictures that say something."""
    marks = Marks(served.out)
    found: dict[str, tuple[str | None, int | None]] = {}
    for row in newest_rows(served.out):
        for image in row["images"]:
            mark = marks.of(row["id"], image["sha256"])
            if mark.choice or mark.rating:
                found[row["id"]] = (mark.choice, mark.rating)
    return found


def chip(page: Page, name: str) -> str:
    """Return the number on a chip of marks."""
    return page.locator(f'#marks .chip:has(input[value="{name}"]) .tally').inner_text()


def test_sixty_marks_by_keys(review: Page, served: Served) -> None:
    """Pick and discard move on to the next picture; all are durable, counted, and can be filtered."""
    review.fill("#text", "scenes/")
    expect(count(review)).to_have_text("485 of 500 calls")
    review.locator(".open").first.focus()
    for key in "ppxpx" * 12:
        review.keyboard.press(key)
    expect(review.locator('#marks .chip:has(input[value="picked"]) .tally')).to_have_text("36")
    until(review, "document.getElementById('said').hidden")
    found = choices(served)
    assert [found[f"scenes/{number}"][0] for number in range(5)] == [
        "pick",
        "pick",
        "discard",
        "pick",
        "discard",
    ]
    assert (len(found), chip(review, "discarded")) == (60, "24")
    review.locator('input[value="discarded"]').check()
    expect(count(review)).to_have_text("24 of 500 calls")


def test_marks_in_the_viewer(review: Page, served: Served) -> None:
    """Stars, a discard and its undoing are shown at once; the keys move only for pick and discard."""
    card(review, "scenes/3").click()
    review.keyboard.press("4")
    expect(review.locator(".marked")).to_have_text("4 stars ★★★★")
    review.keyboard.press("x")
    expect(review.locator("#viewer-id")).to_have_text("scenes/4")
    review.keyboard.press("ArrowLeft")
    expect(review.locator(".marked")).to_have_text("Discarded, 4 stars ★★★★")
    review.keyboard.press("u")
    expect(review.locator(".marked")).to_have_count(0)
    review.keyboard.press("Escape")
    assert choices(served) == {}


def test_a_note_is_a_job(review: Page, served: Served) -> None:
    """What is typed are no keys of the viewer; the page says where the job is."""
    card(review, "scenes/3").click()
    review.keyboard.press("n")
    review.keyboard.type("pick x: zoom in, five 5")
    review.click("#note button")
    expect(review.locator("#note-said")).to_contain_text("followups.jsonl")
    (line,) = (served.out / "followups.jsonl").read_bytes().splitlines()
    assert orjson.loads(line)["prompt"] == "pick x: zoom in, five 5"
    assert choices(served) == {}


def test_a_reload_keeps_what_was_chosen(review: Page) -> None:
    """Search, filter, order, view, size and the open picture are in the address."""
    review.fill("#text", "scenes/")
    expect(count(review)).to_have_text("485 of 500 calls")
    review.select_option("#sort", "id")
    review.click("#direction")
    review.click("#tiles")
    card(review, "scenes/484").click()
    expect(review.locator("#place")).to_have_text("1 of 485")
    review.reload()
    expect(review.locator("#place")).to_have_text("1 of 485")
    expect(review.locator("#viewer-id")).to_have_text("scenes/484")
    review.keyboard.press("Escape")
    assert review.locator("#text").input_value() == "scenes/"
    assert review.locator("#grid").get_attribute("data-tiles") == "large"


def test_two_tabs_show_the_same_marks(review: Page, served: Served) -> None:
    """A mark that is set in one is shown in the other, and the newest counts."""
    other = review.context.new_page()
    other.goto(served.url)
    card(review, "scenes/3").focus()
    review.keyboard.press("p")
    expect(other.locator('#marks .chip:has(input[value="picked"]) .tally')).to_have_text("1")
    card(other, "scenes/3").focus()
    other.keyboard.press("x")
    expect(review.locator('#marks .chip:has(input[value="discarded"]) .tally')).to_have_text("1")
    assert choices(served) == {"scenes/3": ("discard", None)}
    assert chip(review, "picked") == "0"


def test_new_pictures_appear_during_a_run(review: Page, served: Served) -> None:
    """A picture that arrives is on the page soon, and what a run in progress has done."""
    row = next(row for row in newest_rows(served.out) if row["id"] == "scenes/3")
    running = {"left": 7, "calls": 8, "started_at": "2000-01-01T00:00:00Z", "ended_at": None}
    (served.out / "summary.json").write_bytes(orjson.dumps(running))
    with OutputFolder(served.out).locked():
        with (served.out / "results.jsonl").open("ab") as file:
            file.write(orjson.dumps(row | {"id": "arrived/now", "prompt": "Just arrived"}) + b"\n")
        expect(count(review)).to_have_text("501 calls")
        expect(review.locator("#run")).to_contain_text("of 7 calls done")
    expect(review.locator("#run")).to_be_hidden()
    card(review, "arrived/now").click()
    expect(review.locator("#facts")).to_contain_text("Just arrived")


def test_groups_filter_by_folder_and_metadata(review: Page) -> None:
    """The folder of the id is a group; its values are chips."""
    review.select_option("#group", "folder")
    review.locator('#values input[value="ways"]').check()
    expect(count(review)).to_have_text("5 of 500 calls")
    review.locator('#values input[value="edits"]').check()
    expect(count(review)).to_have_text("8 of 500 calls")


def test_a_review_that_has_ended_says_so(review: Page, served: Served) -> None:
    """A mark that can't be saved is taken back, with the reason."""
    served.end()
    card(review, "scenes/3").focus()
    review.keyboard.press("p")
    expect(review.locator("#said")).to_be_visible()
    assert (chip(review, "picked"), choices(served)) == ("0", {})


def test_old_against_new(review: Page, served: Served) -> None:
    """A call that was made again shows its earlier picture next to the new one."""
    rows = {row["id"]: row for row in newest_rows(served.out)}
    first, second = rows["scenes/3"], rows["scenes/4"]
    path = second["images"][0]["path"]
    (served.out / "superseded/scenes").mkdir(parents=True, exist_ok=True)
    moved = served.out / "superseded" / first["images"][0]["path"].removeprefix("images/")
    (served.out / first["images"][0]["path"]).rename(moved)
    again = second["images"][0] | {"path": first["images"][0]["path"]}
    shutil.copy(served.out / path, served.out / again["path"])
    with (served.out / "results.jsonl").open("ab") as file:
        file.write(orjson.dumps(first | {"images": [again]}) + b"\n")
    review.reload()
    card(review, "scenes/3").click()
    review.keyboard.press("c")
    expect(review.locator("#stage figure")).to_have_count(2)
    expect(review.locator("#stage figcaption").first).to_have_text("Earlier 1")


def test_keys_mark_from_the_start(review: Page, served: Served) -> None:
    """The first call has the focus when the page opens, and a click elsewhere takes no key away."""
    expect(review.locator("#hint")).to_be_visible()
    review.keyboard.press("p")
    review.click("#count")
    review.keyboard.press("x")
    expect(review.locator('#marks .chip:has(input[value="discarded"]) .tally')).to_have_text("1")
    until(review, "document.getElementById('said').hidden")
    assert choices(served) == {"hostile/0": ("pick", None), "hostile/1": ("discard", None)}


def test_new_pictures_move_nothing_away(review: Page, served: Served) -> None:
    """While calls arrive above, the call that has the focus keeps it, and stays where it was."""
    row = next(row for row in newest_rows(served.out) if row["id"] == "scenes/3")
    card(review, "scenes/300").focus()
    card(review, "scenes/300").scroll_into_view_if_needed()
    place = (
        "Math.round(document.querySelector('[aria-label^=\"scenes/300,\"]')"
        ".getBoundingClientRect().top)"
    )
    before = review.evaluate(place)
    with (served.out / "results.jsonl").open("ab") as file:
        for number in range(40):
            arrived = row | {"id": f"arrived/{number}", "line": 0}
            file.write(orjson.dumps(arrived) + b"\n")
    expect(count(review)).to_have_text("540 calls")
    assert abs(review.evaluate(place) - before) <= 10
    review.keyboard.press("p")
    expect(review.locator('#marks .chip:has(input[value="picked"]) .tally')).to_have_text("1")
    until(review, "document.getElementById('said').hidden")
    assert choices(served) == {"scenes/300": ("pick", None)}


def test_a_page_opens_before_its_thumbnails_are_made(review: Page, served: Served) -> None:
    """Each is made when its card comes near; a picture that can't be read says so."""
    shutil.rmtree(served.out / FOLDER)
    (served.out / FOLDER).mkdir()
    rows = {row["id"]: row for row in newest_rows(served.out)}
    # Far down: the browser has the thumbnails of the first cards.
    (served.out / rows["scenes/400"]["images"][0]["path"]).write_bytes(b"\x89PNG\r\n\x1a\n broken")
    review.reload()
    assert len(list((served.out / FOLDER).iterdir())) < 100
    review.get_by_role("searchbox").fill("scenes/40")
    expect(card(review, "scenes/400")).to_contain_text("No preview")
    until(review, "document.querySelector('[aria-label^=\"scenes/401,\"] img').naturalWidth > 0")
    assert any((served.out / FOLDER).iterdir())
