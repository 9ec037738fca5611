"""The gallery of a simulated run of 500 calls, in a real Chromium, as a person and as an attacker meets it."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.gallery import write_gallery
from gemini_batch.simulator import SimulatorConfig
from tests.simulated import simulator
from tests.unit.gallery.folder import picture, place, row, write_rows

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no test in a browser"
)
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402 # after the skip

# What each of these would do if it ran: set the sentinel. None may.
HOSTILE = (
    "</script><script>window.sentinel = 1</script>",
    "<img src=x onerror='window.sentinel = 1'>",
    "<svg onload=window.sentinel=1><a href='javascript:window.sentinel=1'>click</a>",
    "javascript:window.sentinel=1",
    "one\u2028window.sentinel = 1\u2029two <!--<script>",
    "{{data}} ${window.sentinel = 1} `${window.sentinel = 1}` &lt;b&gt;",
    "\u202eright to left \x07 \x00",
)
CALLS = 500


def jobs() -> Iterator[dict[str, Any]]:
    """Yield 500 jobs of every kind: edits, groups, drafts, long prompts, hostile ones, and all ways to fail."""
    for number, prompt in enumerate(HOSTILE):
        yield {"id": f"hostile/{number}", "prompt": prompt, "metadata": {prompt: prompt}}
    yield {"id": "edits/lake", "prompt": "Add a rainbow in the sky", "images": ["inputs/lake.png"]}
    yield {"id": "edits/gone", "prompt": "Make it winter", "images": ["inputs/gone.png"]}
    yield {
        "id": "edits/two",
        "prompt": "Join them",
        "images": ["inputs/lake.png", "inputs/gone.png"],
    }
    yield {"id": "ways/blocked", "prompt": "A duel [[fault:safety]]"}
    yield {"id": "ways/rejected", "prompt": "A fox [[fault:400]]"}
    yield {"id": "ways/failed", "prompt": "A comet [[fault:503]]"}
    yield {"id": "ways/drafts", "prompt": "A harbour [[fault:drafts]]"}
    yield {"id": "ways/missing", "prompt": "A lost picture"}
    for number in range(CALLS - 15):
        yield {
            "id": f"scenes/{number}",
            "prompt": f"Scene {number} of a long walk" + " through a quiet town" * (number % 9),
        }


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run against the simulator, with its gallery."""
    folder = tmp_path_factory.mktemp("gallery")
    for name, colour in (("lake", "teal"), ("gone", "gray")):
        place(folder, f"inputs/{name}.png", picture(colour, (64, 48)))
    manifest = folder / "jobs.jsonl"
    manifest.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs()))
    with (
        pytest.MonkeyPatch.context() as patch,
        simulator(SimulatorConfig(tier="unlimited", pixels=64, latency_s=0.0)) as server,
    ):
        patch.setenv("GEMINI_API_KEY", "AIzaSy-any")
        patch.setenv("GEMINI_BATCH_STATE_DIR", str(folder / "state"))
        flags = ["--rpm", "60000", "--rpd", "100000", "--max-attempts", "1", "--quiet"]
        assert main(["run", str(manifest), "--base-url", server.base_url, *flags]) == 4
    out = folder / "jobs.out"
    next((out / "images/ways").glob("missing.*")).unlink()
    (folder / "inputs/gone.png").unlink()
    assert write_gallery(out).calls == CALLS
    return out


@pytest.fixture(scope="module")
def browser(out: Path) -> Iterator[Browser]:  # noqa: ARG001 # the run comes first, see below
    """The system's Chromium, with a new profile; after the run, because Playwright keeps an event loop going in this thread."""
    executable = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if executable is None:
        if os.environ.get("GEMINI_BATCH_NEEDS_BROWSER"):
            pytest.fail("no Chromium on the PATH, and GEMINI_BATCH_NEEDS_BROWSER asks for one")
        pytest.skip("no Chromium on the PATH")
    with sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--headless"],
            ignore_default_args=[
                "--hide-scrollbars"
            ],  # a mouse's scroll bar takes room, as most people have it
        )
        yield browser
        browser.close()


class Opened:
    """A page in the browser, and all that went wrong on it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("popup", lambda popup: self.complaints.append(popup.url))
        page.on("request", lambda request: self.requests.append(request.url))

    def go(self, out: Path) -> Page:
        """Open the gallery of a folder."""
        self.page.goto((out / "gallery.html").as_uri())
        return self.page


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """A new page; at the end no script but the page's own has run, and the browser has had nothing to complain of."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-US"
    )
    context.set_default_timeout(5_000)
    opened = Opened(context.new_page())
    yield opened
    assert opened.page.evaluate("window.sentinel") is None
    assert opened.complaints == []
    assert {url.split(":", 1)[0] for url in opened.requests} <= {"file", "data"}
    context.close()


@pytest.fixture
def page(opened: Opened, out: Path) -> Page:
    """The gallery of the simulated run."""
    return opened.go(out)


def count(page: Page) -> Locator:
    """Return the line that says how many calls are shown."""
    return page.locator("#count")


def card(page: Page, call_id: str) -> Locator:
    """Return what opens a call."""
    return page.locator(f'.open[aria-label^="{call_id}, "]')


def until(page: Page, expression: str) -> None:
    """Wait until an expression is true; Playwright's own way needs `eval`, which the page's policy forbids."""
    for _ in range(250):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never came true: {expression}")


def focused(page: Page) -> str:
    """Return the id, or the label, of the focused element."""
    found = page.evaluate(
        "document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.value || document.activeElement.tagName"
    )
    assert isinstance(found, str)
    return found


def expect_focus(page: Page, name: str) -> None:
    """Wait for the focus: when a dialog closes, the browser says so a moment later."""
    for _ in range(100):
        if focused(page) == name:
            return
        page.wait_for_timeout(20)
    assert focused(page) == name


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


def test_what_was_superseded_stands_beside_the_price(opened: Opened, tmp_path: Path) -> None:
    """An answer whose job was edited was paid for too; without one nothing is said of it."""
    write_rows(tmp_path, row("robot", cost_usd=0.25), row("cat", cost_usd=None))
    (tmp_path / ".gemini_batch").mkdir()
    for more, note in (
        ([], "and 1 call of unknown cost"),
        (
            [row("robot", cost_usd=0.5), row("cat", cost_usd=None)],
            "and 1 call of unknown cost; in all, with what was superseded: $0.7500 and 2 calls of unknown cost",
        ),
    ):
        write_rows(tmp_path, *more)
        write_gallery(tmp_path)
        expect(opened.go(tmp_path).locator("#totals small")).to_have_text(note)


def test_every_card_says_what_a_person_asks_of_it(page: Page) -> None:
    """A card has picture, id, prompt, cost, duration and tokens, and leads to the full file."""
    one = page.locator(".card", has=card(page, "edits/lake"))
    expect(one.locator("p.prompt")).to_have_text("Add a rainbow in the sky")
    expect(one.locator(".meta")).to_have_text(re.compile(r"\$0\.\d{4}\s*\d+\.\d s\s*[\d,]+ tokens"))
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
    ("call_id", "words"),
    [
        ("ways/blocked", "Blocked SAFETY"),
        ("ways/rejected", "Rejected 400 INVALID_ARGUMENT"),
        ("ways/failed", "Failed 503 UNAVAILABLE"),
    ],
)
def test_a_call_without_a_picture_says_why(page: Page, call_id: str, words: str) -> None:
    """Blocked, rejected and failed calls stand among the others, with their reason on the card and its words inside."""
    assert card(page, call_id).inner_text().split() == words.split()
    card(page, call_id).click()
    expect(page.locator("#stage .reason strong")).to_have_text(words.split(maxsplit=1)[0])
    expect(page.locator("#stage .reason .code")).to_have_text(words.split(" ", 1)[1])


def test_a_missing_picture_is_shown_as_missing(page: Page) -> None:
    """A picture that was moved away leaves its place, its name and no broken link."""
    opener = card(page, "ways/missing")
    expect(opener).to_contain_text("Missing")
    expect(opener).to_contain_text("images/ways/missing.")
    assert opener.get_attribute("href") is None


def test_inputs_stand_beside_the_result_of_an_edit(page: Page) -> None:
    """An edit shows what went in on the left and what came out on the right; an input that is gone is named, not linked."""
    card(page, "edits/two").click()
    expect(page.locator("#stage .inputs figcaption")).to_have_text(
        ["Input 1", "Input 2: not there any more"]
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
    """All words have to be there, in any field and any case; what is found is said to a screen reader too."""
    page.fill("#text", "RAINBOW sky")
    expect(count(page)).to_have_text("1 of 500 calls")
    expect(count(page)).to_have_role("status")
    expect(page.locator(".card")).to_have_count(1)
    page.fill("#text", "no such words at all")
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
    """By any key, up and down; numbers in ids sort as numbers; a call without the value is never first."""
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
    numbers = [int(words.split()[0].replace(",", "")) for words in order if words[0].isdecimal()]
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


# --- one call, large --------------------------------------------------------------------------------------------------


def test_the_keys_of_the_viewer(page: Page) -> None:
    """Arrows go on and back, Home and End to the ends and no further, Escape closes and gives the focus back to that call."""
    place_of = page.locator("#place")
    card(page, "edits/lake").click()
    expect(place_of).to_have_text("8 of 500")
    for key, place_there in (
        ("ArrowRight", "9"),
        ("ArrowLeft", "8"),
        ("End", "500"),
        ("ArrowRight", "500"),
        ("ArrowLeft", "499"),
    ):
        page.keyboard.press(key)
        expect(place_of).to_have_text(f"{place_there} of 500")
    page.keyboard.press("Escape")
    expect(page.locator("#viewer")).to_be_hidden()
    expect_focus(page, "scenes/483, succeeded")
    expect(card(page, "scenes/483")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Home")
    expect(place_of).to_have_text("1 of 500")
    page.keyboard.press("ArrowLeft")
    expect(place_of).to_have_text("1 of 500")


def test_the_viewer_follows_filter_and_order(page: Page) -> None:
    """One leafs through what is shown, not through all."""
    page.fill("#text", "ways/")
    expect(count(page)).to_have_text("5 of 500 calls")
    page.locator(".open").first.click()
    expect(page.locator("#place")).to_have_text("1 of 5")
    page.keyboard.press("End")
    expect(page.locator("#viewer-id")).to_have_text("ways/missing")


def test_the_viewer_shows_the_full_picture(page: Page, out: Path) -> None:
    """The thumbnail stands in only until the file itself is there; the file is linked and opens beside."""
    card(page, "scenes/0").click()
    until(
        page,
        "document.querySelector('#stage img').getAttribute('src').startsWith('images/scenes/0.')",
    )
    link = page.locator("#stage a")
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert (out / (link.get_attribute("href") or "?")).is_file()


def test_the_focus_stays_in_the_viewer(page: Page) -> None:
    """Tab goes round inside, both ways; the page behind is out of reach until it is closed."""
    card(page, "edits/lake").click()
    expect_focus(page, "next")
    seen = []
    for key in ["Tab"] * 12 + ["Shift+Tab"] * 12:
        page.keyboard.press(key)
        assert page.evaluate("document.getElementById('viewer').contains(document.activeElement)")
        seen.append(focused(page))
    assert {"previous", "next", "close", "side"} <= set(seen)
    assert seen[-1] == "next"


def test_the_page_can_be_walked_with_the_keyboard_alone(page: Page) -> None:
    """From the top to a picture and back: skip link, theme, search, statuses, order, view, then call by call; nothing needs a mouse."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the calls"
    expect(page.locator(".skip")).to_be_in_viewport()
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == [
        "theme",
        "text",
        "succeeded",
        "blocked",
        "rejected",
        "failed",
        "sort",
        "direction",
        "as-grid",
        "as-table",
    ]
    page.keyboard.press("Tab")
    expect_focus(page, "hostile/0, succeeded")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.page')).gridTemplateColumns.split(' ').length"
    )
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("Number(document.activeElement.dataset.index)") == columns
    page.keyboard.press("End")
    expect_focus(page, "scenes/484, succeeded")
    expect(card(page, "scenes/484")).to_be_in_viewport()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#viewer")).to_be_visible()
    page.keyboard.press("Escape")
    expect_focus(page, "hostile/0, succeeded")
    page.keyboard.press("/")
    expect_focus(page, "text")
    page.keyboard.type("duel")
    expect(count(page)).to_have_text("1 of 500 calls")


def test_landmarks_and_names(page: Page) -> None:
    """A screen reader finds header, search, main and footer, and every control and list has a name."""
    for role in ("banner", "search", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    assert (
        page.evaluate(
            "[...document.querySelectorAll('button, input, select')].filter((x) => !(x.ariaLabel || x.textContent.trim() || x.labels?.length)).length"
        )
        == 0
    )
    assert page.evaluate("document.documentElement.lang") == "en"
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("listitem").first).to_have_attribute("aria-setsize", "500")


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
    """The page follows the system until a person chooses, and remembers the choice."""
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
    """On paper there are all calls, those too that nobody has scrolled to, and no controls."""
    write_rows(tmp_path, *(row(f"n{number}") for number in range(4_000)))
    write_gallery(tmp_path)
    page = opened.go(tmp_path)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".card")).to_have_count(4_000)
    expect(page.locator("#bar")).to_be_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
