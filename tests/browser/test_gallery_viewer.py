"""The viewer of the gallery, and the page without a mouse, in a real Chromium."""

from pathlib import Path

import pytest

from tests.browser.gallery import card, count, expect_focus, focused, until

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no test in a browser"
)
from playwright.sync_api import Page, expect  # noqa: E402 # after the skip


def test_the_keys_of_the_viewer(page: Page) -> None:
    """Arrows move, Home and End jump to the ends, Escape closes and returns the focus."""
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
    """The keys move through the filtered calls only."""
    page.fill("#text", "ways/")
    expect(count(page)).to_have_text("5 of 500 calls")
    page.locator(".open").first.click()
    expect(page.locator("#place")).to_have_text("1 of 5")
    page.keyboard.press("End")
    expect(page.locator("#viewer-id")).to_have_text("ways/missing")


def test_the_viewer_shows_the_full_picture(page: Page, out: Path) -> None:
    """The file replaces the thumbnail once it is loaded; it is linked and opens in a new tab."""
    card(page, "scenes/0").click()
    until(
        page,
        "document.querySelector('#stage img').getAttribute('src').startsWith('images/scenes/0.')",
    )
    link = page.locator("#stage a")
    assert link.get_attribute("rel") == "noopener noreferrer"
    assert (out / (link.get_attribute("href") or "?")).is_file()


def test_the_focus_stays_in_the_viewer(page: Page) -> None:
    """Tab cycles inside in both directions; the page behind is out of reach."""
    card(page, "edits/lake").click()
    expect_focus(page, "next")
    seen = []
    for key in ["Tab"] * 12 + ["Shift+Tab"] * 12:
        page.keyboard.press(key)
        assert page.evaluate("document.getElementById('viewer').contains(document.activeElement)")
        seen.append(focused(page))
    assert {"previous", "next", "close", "side"} <= set(seen)
    assert seen[-1] == "next"


def test_the_page_works_with_the_keyboard_alone(page: Page) -> None:
    """Skip link, theme, search, statuses, order, view and calls are reached without a mouse."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the calls"
    expect(page.locator(".skip")).to_be_in_viewport()
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(focused(page))
    assert order == [
        "theme",
        "text",
        "succeeded",
        "blocked",
        "rejected",
        "failed",
        "group",
        "sort",
        "direction",
        "tiles",
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
