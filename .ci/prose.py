"""Check the English of Python and Markdown files: `python .ci/prose.py PATH ...`.

Prints `file:line: "found": say "replacement"` for each breach: a banned word, and in Python a
docstring that begins with an interrogative, or a line of more than 100 columns. Exits with 1 if
there is any.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

COLUMNS = 100
INTERROGATIVES = {"What", "Whether", "How", "By", "Where", "Of", "Why", "When", "Who"}
# Pattern -> replacement. A space matches any white space; patterns of one word hold for names too.
TERMS = {
    "(?:a|the) person": "the user",
    "somebody": "the user",
    "in place of": "instead of",
    "made smaller": "downscaled",
    "beside": "next to",
    "words": "text or message",
    "anew": "again",
    "dear|dearer|dearest": "expensive",
    "mend|mends|mended|mending": "fix or repair",
    "tell|tells|told|telling": "say or report",
    "lets? by": "admit",
    "(?:take|takes|took|taken|taking) in(?! (?:a|one|each|total) )": "accept or record",
    "(?:give|gives|gave|given) nothing": "failed",
    "whoever|whatever": "the noun that is meant",
    "nobody": "no one",
    "(?:go|goes|went|going) on": "continue",
    "(?:is|are) to be": "must be",
    "storm|storms": "outage or open circuit breaker",
    "everybody": "every user",
    ", for (?=(?:it|they|else) )": "because",
    "(?<!there\\s)(?:is|was) no (?=(?:valid|regular|result)? ?(?:address|answer|column|copy|field|"
    "image|job|lease|manifest|number|object|parent|picture|project|row|string|text|URI)\\b)": (
        "is not a"
    ),
    "(?:so many|so much)(?=[.,;])": "the number that is meant",
    "in so far as|inasmuch as": "as far as",
    "all the same": "anyway or still",
    "(?:is|are|was|were|not|does|can't) (?:[\\w.`]+ ){0,4}any more": "no longer",
    "(?<!left\\s)(?<!lag\\s)(?<!image\\s)(?<!server\\s)(?<!servers\\s)behind(?! a )": "after",
    "heed|heeds|heeded|thence|whence|whither|wherefore|lest": "a common word",
}
_TERMS = {re.compile(rf"(?i)\b(?:{t})\b".replace(" ", r"\s+")): say for t, say in TERMS.items()}
_NAMES = {w: say for term, say in TERMS.items() if " " not in term for w in term.split("|")}
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_EDGES = re.compile(r"^[A-Za-z]{0,2}[\"']+|^[# ]+|[\"']+$")
_FIELD = re.compile(r"\{[^{}]*\}")
_ESCAPE = re.compile(r"\\[nrt]")
# Python 3.12 splits an f-string into tokens of its own.
_STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)}
_SKIPPED = {tokenize.NL, *(getattr(tokenize, f"FSTRING_{at}", -1) for at in ("START", "END"))}

Breach = tuple[int, str, str]  # line, what was found, what to say


def docstrings(tree: ast.AST) -> Iterator[Breach]:
    """Yield the docstrings, attributes' included, that begin with an interrogative."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(ast.Constant(str(text)), lineno=line):
                if (word := re.split(r"\W", text.strip(), maxsplit=1)[0]) in INTERROGATIVES:
                    yield line, word, "a verb and an object, or a noun phrase"


def names(tree: ast.AST) -> Iterator[Breach]:
    """Yield the names that this file defines with a banned word in them."""
    for node in ast.walk(tree):
        is_use = isinstance(node, ast.alias | ast.keyword | ast.Attribute | ast.Name)
        is_use &= not isinstance(getattr(node, "ctx", None), ast.Store)
        for field in ("asname",) if is_use else ("name", "arg", "id", "attr"):
            name = getattr(node, field, None)
            for part in _NAME_PART.findall(name) if isinstance(name, str) else ():
                if say := _NAMES.get(part.lower()):
                    yield getattr(node, "lineno", 1), str(name), say


def texts(source: str) -> Iterator[tuple[str, list[int]]]:
    """Yield comments and strings with the line of each character; neighbours make one text."""
    whole, lines, last = "", list[int](), tokenize.NL
    for kind, text, (line, _), _, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind in _SKIPPED:
            continue
        if kind != last:
            yield whole, lines
            whole, lines, last = "", [], kind
        if kind == tokenize.COMMENT or kind in _STRINGS:
            plain = _FIELD.sub("{}", text) if text[:1] in "fF" else text
            plain = _ESCAPE.sub("  ", _EDGES.sub("", plain)) + " " * (kind == tokenize.COMMENT)
            whole += plain
            lines += [*accumulate((char == "\n" for char in plain), initial=line)][:-1]
    yield whole, lines


def terms(source: str) -> Iterator[Breach]:
    """Yield the banned words of comments and strings."""
    for whole, lines in texts(source):
        for pattern, say in _TERMS.items() if whole else ():
            for found in pattern.finditer(whole):
                yield lines[found.start()], " ".join(found[0].split()), say


def prose(page: str) -> list[Breach]:
    """Return the banned words of a Markdown page, outside of its code."""
    code = r"(?ms)^ *```.*?^ *```$|`[^`\n]+`"
    text = re.sub(code, lambda found: re.sub(r"[^\n]", "`", found[0]), page)
    return sorted(
        (text.count("\n", 0, found.start()) + 1, " ".join(found[0].split()), say)
        for pattern, say in _TERMS.items()
        for found in pattern.finditer(text)
    )


def breaches(source: str) -> list[Breach]:
    """Return every breach of one Python file in the order of its lines."""
    tree = ast.parse(source)
    widths = enumerate(map(len, source.split("\n")), 1)
    long = [(at, f"{n} columns", f"at most {COLUMNS}") for at, n in widths if n > COLUMNS]
    return sorted([*docstrings(tree), *names(tree), *terms(source), *long])


def main(paths: list[str]) -> int:
    """Check every file that is named or in a folder that is; return the exit code."""
    files = sorted(each for path in map(Path, paths) for each in (path, *path.rglob("*")))
    checks = {".py": breaches, ".md": prose}
    read = [path for path in files if path.suffix in checks and path.is_file()]
    wrong = [
        (path, *each) for path in read for each in checks[path.suffix](path.read_text("utf-8"))
    ]
    for path, line, found, say in wrong:
        sys.stdout.write(f'{path}:{line}: "{found}": say "{say}"\n')
    if not wrong:
        sys.stdout.write(f"prose: {len(read)} files read, nothing found\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
