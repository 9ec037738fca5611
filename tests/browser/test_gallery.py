"""The gallery of a simulated run of 500 calls in a real Chromium: contents, search, safety, layout."""

import re
import shutil
from pathlib import Path

import orjson
import pytest

from gemini_batch.gallery.writer import write_gallery
from tests.browser.gallery import HOSTILE, Opened, card, count, expect_focus, until
from tests.unit.gallery.folder import place, row, write_rows

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no test in a browser"
)
from playwright.sync_api import Browser, Page, expect  # noqa: E402 # after the skip

# --- what is there ----------------------------------------------------------------------------------------------------


def test_the_totals_stand_on_top(page: Page) -> None:
    """Calls, pictures, tokens and cost are the first thing that one reads."""
    totals = page.locator("#totals").inner_text()
    assert re.search(
        r"Calls\s+500\s+Pictures\s+497\s+1 missing\s+Tokens\s+[\d,]+\s+List price\s+\$\d+\.\d\d",
        totals,
    )
    expect(page.locator("h1")).to_have_text("jobs.out")
    expect(page.locator("#origin")).to_contain_text("of jobs.jsonl")


def test_the_cost_of_superseded_answers_is_next_to_the_price(
    opened: Opened, tmp_path: Path
) -> None:
    """Superseded answers were paid for too; without them there is no note."""
    write_rows(tmp_path, row("robot", cost_usd=0.25), row("cat", cost_usd=None))
    (tmp_path / ".gemini_batch").mkdir()
    for more, note in (
        ([], "and 1 call of unknown cost"),
        (
            [row("robot", cost_usd=0.5), row("cat", cost_usd=None)],
            "and 1 call of unknown cost; including superseded answers: $0.750 and 2 calls of unknown cost",
        ),
    ):
        write_rows(tmp_path, *more)
        write_gallery(tmp_path)
        expect(opened.go(tmp_path).locator("#totals small")).to_have_text(note)


def test_a_picture_of_a_batch_says_so_and_that_it_is_smaller(
    opened: Opened, tmp_path: Path
) -> None:
    """A card, the table and the viewer name the batch and a size below the one that was asked for."""
    (tmp_path / ".gemini_batch").mkdir()
    batch = {"name": "batches/b1", "key": "k", "created_at": None, "ended_at": None}
    image = place(tmp_path, "images/robot.png")
    fields = {"route": "batch", "batch": batch, "cost_usd": 0.067, "images": [image]}
    write_rows(tmp_path, row("robot", **fields, is_smaller=True), row("cat", images=[image]))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    robot, cat = (page.locator(".card", has=card(page, each)) for each in ("robot", "cat"))
    expect(robot.locator(".meta span").first).to_have_text("$0.067 by batch")
    expect(robot.locator(".badge")).to_have_text("smaller than asked for")
    expect(cat.locator(".badge")).to_have_count(0)
    expect(cat.locator(".meta")).not_to_contain_text("batch")
    card(page, "robot").click()
    viewer = page.locator("dialog dl")
    for words in ("$0.067, half price by batch", "smaller than asked for", "batches/b1"):
        expect(viewer).to_contain_text(words)
    page.keyboard.press("Escape")
    page.get_by_role("searchbox").fill("smaller than")
    expect(page.locator(".card")).to_have_count(1)


def test_every_card_says_what_a_person_asks_of_it(page: Page) -> None:
    """A card has picture, id, prompt, cost, duration and tokens, and leads to the full file."""
    one = page.locator(".card", has=card(page, "edits/lake"))
    expect(one.locator("p.prompt")).to_have_text("Add a rainbow in the sky")
    expect(one.locator(".meta")).to_have_text(re.compile(r"\$0\.\d{3}\s*\d+\.\d s\s*[\d,]+ tokens"))
    assert (card(page, "edits/lake").get_attribute("href") or "").startswith("images/edits/lake.")
    expect(one.locator("img.input")).to_have_js_property("complete", value=True)


def test_every_picture_comes_up(page: Page) -> None:
    """Wherever one scrolls to, each picture in sight is there."""
    in_sight = "[...document.images].filter((x) => x.getBoundingClientRect().bottom > 0 && x.getBoundingClientRect().top < innerHeight)"
    for share in (0, 0.5, 1):
        page.evaluate(f"scrollTo(0, {share} * document.documentElement.scrollHeight)")
        until(
            page,
            f"{in_sight}.length > 3 && {in_sight}.every((image) => image.complete && image.naturalWidth > 0)",
        )


@pytest.mark.parametrize(
    ("call_id", "message"),
    [
        ("ways/blocked", "Blocked SAFETY"),
        ("ways/rejected", "Rejected 400 INVALID_ARGUMENT"),
        ("ways/failed", "Failed 503 UNAVAILABLE"),
    ],
)
def test_a_call_without_a_picture_says_why(page: Page, call_id: str, message: str) -> None:
    """Blocked, rejected and failed calls have their reason on the card, and its text inside."""
    assert card(page, call_id).inner_text().split() == message.split()
    card(page, call_id).click()
    expect(page.locator("#stage .reason strong")).to_have_text(message.split(maxsplit=1)[0])
    expect(page.locator("#stage .reason .code")).to_have_text(message.split(" ", 1)[1])


def test_a_missing_picture_is_shown_as_missing(page: Page) -> None:
    """A picture that was moved away leaves its place, its name and no broken link."""
    opener = card(page, "ways/missing")
    expect(opener).to_contain_text("Missing")
    expect(opener).to_contain_text("images/ways/missing.")
    assert opener.get_attribute("href") is None


def test_inputs_are_shown_next_to_the_result_of_an_edit(page: Page) -> None:
    """An edit shows what went in on the left and what came out on the right; an input that is gone is named, not linked."""
    card(page, "edits/two").click()
    expect(page.locator("#stage .inputs figcaption")).to_have_text(
        ["Input 1", "Input 2: no longer exists"]
    )
    expect(page.locator("#stage .outputs figcaption")).to_have_text(["Result"])
    inputs, outputs = (
        page.locator(f"#stage .{name}").bounding_box() for name in ("inputs", "outputs")
    )
    assert inputs is not None
    assert outputs is not None
    assert inputs["x"] + inputs["width"] <= outputs["x"]
    until(page, "document.querySelector('#stage .inputs img').naturalWidth === 64")
    assert page.locator("#stage .inputs a").get_attribute("href") == "../inputs/lake.png"


def test_drafts_are_shown(page: Page) -> None:
    """Drafts were paid for: the card counts them, and the call shows each."""
    expect(card(page, "ways/drafts").locator(".badge")).to_have_text(re.compile(r"\d drafts?"))
    card(page, "ways/drafts").click()
    assert (
        page.locator("#facts .drafts img").count()
        == page.locator("#facts .files a").count() - 1
        > 0
    )


# --- finding ----------------------------------------------------------------------------------------------------------


def test_text_finds_calls_and_the_number_is_said(page: Page) -> None:
    """All terms must match, in any field and case; the number is announced to screen readers."""
    page.fill("#text", "RAINBOW sky")
    expect(count(page)).to_have_text("1 of 500 calls")
    expect(count(page)).to_have_role("status")
    expect(page.locator(".card")).to_have_count(1)
    page.fill("#text", "no such text at all")
    expect(page.locator("#empty")).to_be_visible()
    page.click("#reset")
    expect(count(page)).to_have_text("500 calls")
    expect_focus(page, "text")


def test_reasons_and_metadata_are_searched_too(page: Page) -> None:
    """One finds what failed by what the server said."""
    page.fill("#text", "unavailable")
    expect(count(page)).to_have_text("1 of 500 calls")
    expect(card(page, "ways/failed")).to_be_visible()


def test_statuses_filter_together_and_with_the_text(page: Page) -> None:
    """Several statuses add up, text narrows them, and each shows how many there are."""
    chips = page.locator("#statuses label")
    expect(chips).to_have_text(["Succeeded497", "Blocked1", "Rejected1", "Failed1"])
    page.get_by_role("checkbox", name="Blocked").check()
    expect(count(page)).to_have_text("1 of 500 calls")
    page.get_by_role("checkbox", name="Failed").check()
    expect(count(page)).to_have_text("2 of 500 calls")
    page.fill("#text", "comet")
    expect(count(page)).to_have_text("1 of 500 calls")
    expect(card(page, "ways/failed")).to_be_visible()


def test_sorting_turns_round_and_unknown_values_come_last(page: Page) -> None:
    """Every key sorts both ways; numbers in ids sort as numbers; missing values are last."""
    first = page.locator(".card .id").first
    page.select_option("#sort", "id")
    expect(first).to_have_text("edits/gone")
    page.click("#direction")
    expect(first).to_have_text("ways/rejected")
    page.fill("#text", "scenes/")
    expect(first).to_have_text("scenes/484")
    page.fill("#text", "")
    page.select_option("#sort", "tokens")
    page.click("#direction")
    expect(first).not_to_have_text(re.compile("rejected|failed"))
    page.click("#direction")
    expect(first).not_to_have_text(re.compile("rejected|failed"))
    order = page.evaluate(
        "[...document.querySelectorAll('.card .meta span:last-child')].map((span) => span.textContent)"
    )
    numbers = [int(text.split()[0].replace(",", "")) for text in order if text[0].isdecimal()]
    assert numbers == sorted(numbers, reverse=True)


def test_the_table_shows_the_same_calls(page: Page) -> None:
    """The table has the filter of the pictures, sorts by its heads, and says so to a screen reader."""
    page.fill("#text", "ways/")
    page.click("#as-table")
    expect(page.get_by_role("row")).to_have_count(1 + 5)
    heads = page.get_by_role("columnheader")
    expect(heads).to_have_text(
        ["Picture", "Id", "Status", "Prompt", "Tokens", "Cost", "Duration", "Finished", "Model"]
    )
    page.get_by_role("button", name="Id", exact=True).click()
    expect(page.get_by_role("rowheader")).to_have_text(
        [f"ways/{name}" for name in ("blocked", "drafts", "failed", "missing", "rejected")]
    )
    page.get_by_role("button", name="Id", exact=True).click()
    expect(heads.nth(1)).to_have_attribute("aria-sort", "descending")
    expect(page.locator("tbody tr[role=row] > th[role=rowheader] ~ td[role=cell]")).to_have_count(
        5 * 7
    )
    expect(page.get_by_role("rowheader").first).to_have_text("ways/rejected")
    expect(page.get_by_role("row").nth(1)).to_contain_text("400 INVALID_ARGUMENT")
    page.get_by_role("rowheader").first.get_by_role("button").click()
    expect(page.locator("#viewer-id")).to_have_text("ways/rejected")


# --- what must not happen ---------------------------------------------------------------------------------------------


def test_hostile_texts_are_shown_and_run_nothing(page: Page) -> None:
    """Scripts, handlers and links in prompts are letters on the card, in the table and in the viewer."""
    for number, prompt in enumerate(HOSTILE):
        shown = page.locator(".card", has=card(page, f"hostile/{number}")).locator("p.prompt")
        assert shown.evaluate("element => element.textContent") == prompt
        assert shown.evaluate("element => element.children.length") == 0
        card(page, f"hostile/{number}").click()
        assert (
            page.locator("#facts .prose").first.evaluate("element => element.textContent") == prompt
        )
        page.keyboard.press("Escape")
    page.click("#as-table")
    expect(page.locator("td.prompt").first).to_have_text(HOSTILE[0])
    assert page.evaluate("document.querySelectorAll('script').length") == 4
    assert (
        page.evaluate(
            "[...document.querySelectorAll('*')].filter((x) => [...x.attributes].some((a) => a.name.startsWith('on'))).length"
        )
        == 0
    )


def test_hostile_rows_run_nothing_and_link_nothing(opened: Opened, tmp_path: Path) -> None:
    """Ids, paths, models, reasons and a damaged sha256 are letters too, even where no run would have written them."""
    rows = []
    for number, evil in enumerate(HOSTILE):
        file = {
            "path": evil.replace("\0", ""),
            "sha256": evil,
            "width": evil,
            "height": 3,
            "size_bytes": 1,
        }
        error = {"http_status": evil, "status": evil, "reason": evil, "message": evil}
        rows.append(
            row(
                f"{evil}{number}",
                prompt=evil,
                text=evil,
                model=evil,
                images=[file],
                drafts=[file],
                inputs=[file],
                finished_at=evil,
            )
        )
        rows.append(
            row(
                f"{number}{evil}",
                status="failed",
                error=error,
                model_version=evil,
                response_id=evil,
            )
        )
    write_rows(tmp_path, *rows)
    (tmp_path / "summary.json").write_bytes(
        orjson.dumps({"manifest": HOSTILE[0], "out": HOSTILE[1]})
    )
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    expect(count(page)).to_have_text("14 calls")
    page.locator(".open").first.click()
    for _ in rows:
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    page.click("#as-table")
    page.fill("#text", "<script>")
    expect(count(page)).to_have_text("4 of 14 calls")
    assert page.evaluate(
        "[...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))"
    ) == ["#calls-start"]


@pytest.mark.parametrize(
    "attack",
    [
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.sentinel = 1'}))",
        "document.body.innerHTML = '<img src=x onerror=\"window.sentinel = 1\">'",
        "document.body.setAttribute('onclick', 'window.sentinel = 1'); document.body.click()",
        "location.href = 'javascript:window.sentinel=1'",
        "fetch('https://example.invalid/')",
        "new Image().src = 'https://example.invalid/x.png'",
    ],
)
def test_the_policy_holds_even_when_something_gets_in(
    opened: Opened, out: Path, attack: str
) -> None:
    """Were some text taken for markup or script after all, the browser itself would not run it or send anything."""
    page = opened.go(out)
    thrown = page.evaluate(
        f"() => {{ try {{ {attack} }} catch (error) {{ return String(error) }} }}"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.sentinel") is None
    assert re.search(
        "Content Security Policy|requires 'Trusted", " ".join([thrown or "", *opened.complaints])
    )
    opened.complaints.clear()
    opened.requests.clear()


# --- how it feels -----------------------------------------------------------------------------------------------------


def test_dark_and_light(browser: Browser, out: Path) -> None:
    """The page follows the system until the user chooses, and remembers the choice."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto((out / "gallery.html").as_uri())
    brightness = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, x) => sum + Number(x), 0)"
    assert page.evaluate(brightness) < 150
    expect(page.locator("#theme")).to_have_attribute("aria-pressed", "true")
    page.click("#theme")
    assert page.evaluate(brightness) > 600
    page.reload()
    assert page.evaluate(brightness) > 600
    context.close()


@pytest.mark.parametrize("width", [360, 768, 1920])
def test_no_width_scrolls_sideways(page: Page, width: int) -> None:
    """On a phone, a tablet and a large screen everything is within the window."""
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.clientHeight") == 800, (
        "a scroll bar at the bottom"
    )
    card(page, "edits/two").click()
    assert page.evaluate("document.querySelector('.viewer').scrollWidth") <= width


def test_far_pages_have_their_height_before_they_are_filled(opened: Opened, tmp_path: Path) -> None:
    """Scrolling a long gallery never jumps: what is not there yet takes the room that it will have."""
    write_rows(tmp_path, *(row(f"n{number}", line=number) for number in range(6_000)))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    height = page.evaluate("document.documentElement.scrollHeight")
    assert page.locator(".card").count() < 6_000
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    until(page, "document.querySelector('[data-index=\"3000\"]')")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator('[data-index="5999"]')).to_be_in_viewport()
    assert abs(page.evaluate("document.documentElement.scrollHeight") - height) < 10
    page.click("#as-table")
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    expect(page.locator('[data-index="5999"]')).to_be_in_viewport()


def test_a_wider_window_divides_the_calls_again(opened: Opened, tmp_path: Path) -> None:
    """All rows but the last are full at any width, and the call in the middle of the window stays there."""
    write_rows(tmp_path, *(row(f"n{number}", line=number) for number in range(900)))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    page.set_viewport_size({"width": 1280, "height": 800})
    page.evaluate("scrollTo(0, 9000)")
    at = (
        "Number([...document.querySelectorAll('.card')].find((each) => "
        "each.getBoundingClientRect().bottom > innerHeight / 2)?.querySelector('.open').dataset.index)"
    )
    until(page, at + " >= 0")
    before = page.evaluate(at)
    page.set_viewport_size({"width": 900, "height": 800})
    until(
        page,
        "[...document.querySelectorAll('.page')].every((page) => page.dataset.length % "
        "getComputedStyle(page).gridTemplateColumns.split(' ').length === 0)",
    )
    assert abs(page.evaluate(at) - before) < 12


def test_pictures_far_from_the_window_are_not_loaded(opened: Opened, tmp_path: Path) -> None:
    """A gallery of many pictures asks only for those that are near, and for the others when they come."""
    image = place(tmp_path, "images/a.png")
    write_rows(tmp_path, *(row(f"n{each}", line=each, images=[image]) for each in range(600)))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    until(page, "document.querySelectorAll('.card img').length === 600")
    assert page.locator(".card img[src]").count() < 120
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    until(page, "document.querySelector('[data-index=\"599\"] img').naturalWidth > 0")


def test_thumbnails_left_behind_are_replaced_by_the_pictures(
    opened: Opened, out: Path, tmp_path: Path
) -> None:
    """A copy of the folder without its hidden part still shows every picture."""
    shutil.copytree(out, tmp_path / "copy", ignore=shutil.ignore_patterns(".gemini_batch"))
    page = opened.go(tmp_path / "copy")
    until(page, "document.querySelector('.card img').getAttribute('src').startsWith('images/')")
    until(page, "document.querySelector('.card img').naturalWidth > 0")
    opened.complaints.clear()  # the browser says that the thumbnails are not there


def test_it_prints_all_calls_in_dark_ink_on_white(opened: Opened, tmp_path: Path) -> None:
    """On paper there are all calls, also those outside the window, and no controls."""
    write_rows(tmp_path, *(row(f"n{number}") for number in range(4_000)))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".card")).to_have_count(4_000)
    expect(page.locator("#bar")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_mailed_page_shows_every_picture_alone(opened: Opened, out: Path, tmp_path: Path) -> None:
    """One file, in an empty folder: pictures, inputs and drafts are there, and nothing is asked for elsewhere."""
    shutil.copytree(out, tmp_path / "made")
    write_gallery(tmp_path / "made", max_mailed_bytes=18_000_000)
    (tmp_path / "mailed").mkdir()
    shutil.move(tmp_path / "made/gallery.html", tmp_path / "mailed")
    page = opened.go(tmp_path / "mailed")
    until(page, "document.querySelector('.card img').naturalWidth > 0")
    assert page.locator("a.open").count() == 0
    for call_id, number in (("edits/lake", 2), ("ways/drafts", 1)):
        card(page, call_id).click()
        pictures = page.locator("#stage img")
        expect(pictures).to_have_count(number)
        until(page, "[...document.querySelectorAll('#stage img')].every((x) => x.naturalWidth > 0)")
        expect(page.locator("#facts .files")).to_have_count(0)
        page.keyboard.press("Escape")
    card(page, "ways/drafts").click()
    until(page, "document.querySelector('#facts .drafts img').naturalWidth > 0")
    assert [url for url in opened.requests if not url.startswith("data:")] == [
        (tmp_path / "mailed/gallery.html").as_uri()
    ]
