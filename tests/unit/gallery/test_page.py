"""The page around the calls."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import orjson
import pytest

from gemini_batch.gallery.page import frame, safe_json

HOSTILE = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> &amp; \u2028 \u2029"


class _Blocks(HTMLParser):
    """Collects the attributes of all tags, and what is inside `style` and `script`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in {"style", "script"} and data.strip():
            self.inside.setdefault(self.tags[-1][0], data)


def test_safe_json_means_the_same_and_holds_nothing_that_markup_is_made_of() -> None:
    """Text from outside can neither end its script block, nor begin a comment in it, nor end a line of a script."""
    found = safe_json({"prompt": HOSTILE})
    assert orjson.loads(found) == {"prompt": HOSTILE}
    assert not set("<>&\u2028\u2029") & set(found.decode())


def test_the_policy_names_the_hashes_of_just_this_style_and_script() -> None:
    """The Content-Security-Policy lets the page's own style and script through, and no other."""
    before, after = frame("jobs.out")
    page = _Blocks((before + after).decode())
    policy = next(
        a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(page.inside[kind].encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "'self' data:"
    assert rules["base-uri"] == rules["form-action"] == rules["trusted-types"] == "'none'"


def test_the_page_loads_nothing_and_has_no_handler_in_an_attribute() -> None:
    """Nothing comes from a network, and nothing that the policy would have to forbid is in the page's own markup."""
    before, after = frame("jobs.out")
    page = _Blocks((before + after).decode())
    for tag, attributes in page.tags:
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in {"style", "src", "action"}
        ], tag
        assert (attributes.get("href") or "#")[:5] in {
            "data:",
            *(f"#{x}"[:5] for x in ("calls", "icon-")),
            "#",
        }
    assert "://" not in re.sub(r"//.*", "", page.inside["script"])
    assert "url(" not in page.inside["style"]
    assert "@import" not in page.inside["style"]


@pytest.mark.parametrize(
    ("name", "end"), [("style", "</style"), ("script", "</script"), ("script", "<!--")]
)
def test_style_and_script_do_not_end_themselves(name: str, end: str) -> None:
    """Unescaped parts of the page contain nothing that would end their element."""
    before, after = frame("x")
    assert end not in _Blocks((before + after).decode()).inside[name].lower()


@pytest.mark.parametrize(
    "name",
    [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "DOMParser",
    ],
)
def test_the_script_never_makes_markup_of_a_string(name: str) -> None:
    """Text gets into the document as text alone."""
    before, after = frame("x")
    assert name not in _Blocks((before + after).decode()).inside["script"]


def test_a_title_is_text() -> None:
    """A folder's name that looks like markup, or like a slot of the template, is shown as it is."""
    name = "</title><script>alert(1)</script>{{script}} \udcff"
    before, _ = frame(name)
    assert b"<script>alert" not in before
    assert html.escape("{{script}}").encode() in before
