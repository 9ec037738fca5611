"""The jobs of the gallery's run, and helpers for its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Each of these would set the sentinel if it ran.
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
    """Yield 500 jobs: edits, groups, drafts, long and hostile prompts, and every kind of failure."""
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


class Opened:
    """A page in the browser with its errors and requests."""

    def __init__(self, page: "Page") -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("popup", lambda popup: self.complaints.append(popup.url))
        page.on("request", lambda request: self.requests.append(request.url))

    def go(self, out: Path) -> "Page":
        """Open the gallery of a folder."""
        self.page.goto((out / "gallery.html").as_uri())
        return self.page


def count(page: "Page") -> "Locator":
    """Return the line that says how many calls are shown."""
    return page.locator("#count")


def card(page: "Page", call_id: str) -> "Locator":
    """Return what opens a call."""
    return page.locator(f'.open[aria-label^="{call_id}, "]')


def until(page: "Page", expression: str) -> None:
    """Wait until an expression is true; Playwright's own way needs `eval`, which the page's policy forbids."""
    for _ in range(250):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never came true: {expression}")


def focused(page: "Page") -> str:
    """Return the id, or the label, of the focused element."""
    found = page.evaluate(
        "document.activeElement.id || document.activeElement.getAttribute('aria-label') "
        "|| document.activeElement.value || document.activeElement.tagName"
    )
    assert isinstance(found, str)
    return found


def expect_focus(page: "Page", name: str) -> None:
    """Wait for the focus: when a dialog closes, the browser says so a moment later."""
    for _ in range(100):
        if focused(page) == name:
            return
        page.wait_for_timeout(20)
    assert focused(page) == name
