"""The page around the calls: one file that loads nothing from a network and runs only its script.

Its data is untrusted: prompts, ids, paths, and texts of a model. It is embedded as JSON in blocks
that no browser runs, and inserted into the document only as text. As a second line of defence the
Content-Security-Policy allows only the script and the style sheet with the given hashes: no inline
handlers, no connections, and no markup made from strings (Trusted Types).
"""

import base64
import hashlib
import html
import re
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

# Characters that could end a script block or begin a comment, and line ends that JSON allows.
_ESCAPED = (
    (b"<", rb"\u003c"),
    (b">", rb"\u003e"),
    (b"&", rb"\u0026"),
    ("\u2028".encode(), rb"\u2028"),
    ("\u2029".encode(), rb"\u2029"),
)
_SCRIPT = (
    "data",
    "marks",
    "order",
    "facets",
    "views",
    "viewer",
    "address",
    "review",
    "main",
)
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def safe_json(value: Any) -> bytes:
    """Return the value as JSON that is safe in an HTML script block."""
    text = orjson.dumps(value)
    for character, escape in _ESCAPED:
        text = text.replace(character, escape)
    return text


def frame(title: str, *, connects: bool = False) -> tuple[bytes, bytes]:
    """Return the parts of the page before and after the data blocks.

    `title` is any text; with `connects` the page may ask the server that it comes from.
    """
    style = _template("gallery.css")  # a test ensures that it and the script have no end tags
    parts = "\n".join(_template(f"script/{name}.js") for name in _SCRIPT)
    # In a scope of its own: `status` and `open` are names of the browser.
    script = f'"use strict";\n(() => {{\n{parts}}})();\n'
    slots = {
        "csp": html.escape(_policy(style, script, connects=connects), quote=False),
        "title": html.escape(title),
        "style": style,
        "script": script,
    }
    before, after = (
        _SLOT.sub(lambda slot: slots[slot[1]], part).encode("utf-8", "replace")
        for part in _template("gallery.html").split("{{data}}")
    )
    return before, after


def _policy(style: str, script: str, *, connects: bool) -> str:
    """Return the Content-Security-Policy of a page with this style sheet and this script."""
    connections = " connect-src 'self';" if connects else ""
    return (
        f"default-src 'none';{connections} img-src 'self' data:; style-src {_source(style)}; "
        f"script-src {_source(script)}; base-uri 'none'; form-action 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _template(name: str) -> str:
    return files("gemini_batch.gallery").joinpath(name).read_text(encoding="utf-8")
