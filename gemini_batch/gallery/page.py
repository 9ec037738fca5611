"""The page around the calls: one file that loads nothing from a network and runs no script but its own.

What is shown comes from outside: prompts, ids, paths, and what a model wrote. It is in the page as JSON, in blocks that no
browser runs, and gets from there into the document as text alone. Should that ever fail, the Content-Security-Policy holds: only
the one script and the one style sheet whose hashes it names, no handler in an attribute, no connection, and no way for a script
to make markup of a string.
"""

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

# What could end a script block or begin a comment in it, and the two line ends that are none in JSON. All stand in strings only.
_ESCAPED = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)
_SCRIPT = ("data", "order", "views", "viewer", "main")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def safe_json(value: Any) -> bytes:
    """Return JSON that means the same and can stand in an HTML script block."""
    text = orjson.dumps(value)
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return text


def frame(title: str) -> tuple[bytes, bytes]:
    """Return what comes before and after the data blocks.

    Args:
        title: The page's, any text.
    """
    style, script = _template("gallery.css"), _script()
    before, after = _template("gallery.html").split("{{data}}")
    slots = {"csp": policy(style, script), "title": title, "style": style, "script": script}
    raw = {"style", "script"}  # their own end tags are not in them, which a test sees to

    def filled(text: str) -> bytes:
        # In one pass: what is filled in is not looked at again.
        whole = _SLOT.sub(
            lambda slot: (
                slots[slot[1]]
                if slot[1] in raw
                else html.escape(slots[slot[1]], quote=slot[1] != "csp")
            ),
            text,
        )
        return whole.encode("utf-8", "replace")

    return filled(before), filled(after)


def policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy of a page with this style sheet and this script."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src 'self' data:",
            f"style-src {_source(style)}",
            f"script-src {_source(script)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _script() -> str:
    """Return the parts of the script as one, whose names are nobody else's: `status` and `open` are the browser's."""
    parts = "\n".join(_template(f"script/{name}.js") for name in _SCRIPT)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


@cache
def _template(name: str) -> str:
    return files("gemini_batch.gallery").joinpath(name).read_text(encoding="utf-8")
