"""The names of the output folder are spelled in one module."""

import ast
from collections.abc import Iterator
from pathlib import Path

import gemini_batch
from gemini_batch.output import paths

PACKAGE = Path(gemini_batch.__file__).parent
NAMES = {value for name, value in vars(paths).items() if name.isupper()}
# A field of a row may have the name of a folder; with a slash it is a path.
PLAIN = {
    paths.IMAGES,
    paths.DRAFTS,
    paths.INPUTS,
    paths.THUMBNAILS,
    paths.LOCK,
    paths.DURABLE,
    paths.UNREADABLE,
    paths.BATCHES,
    paths.VIEW,
}
# The template of the page in the package itself, and the name of a module.
ALLOWED = {("gallery/page.py", paths.GALLERY), ("records/__init__.py", paths.INCOMING)}


def spelled(source: str) -> Iterator[str]:
    """Yield the string literals that name a file of the output folder, docstrings and prose aside."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        text = node.value
        if any(character.isspace() for character in text):
            continue
        segments = set(text.split("/"))
        if segments & (NAMES - PLAIN) or ("/" in text and segments & PLAIN):
            yield text


def test_only_one_module_spells_the_names_of_the_output_folder() -> None:
    """Every other module imports them, so that a name is changed in one place."""
    found = {
        (module, text)
        for path in PACKAGE.rglob("*.py")
        if not (module := str(path.relative_to(PACKAGE))).startswith("simulator/")
        for text in spelled(path.read_text())
    }

    assert {text for module, text in found if module == "output/paths.py"} == NAMES - PLAIN
    assert {each for each in found if each[0] != "output/paths.py"} == ALLOWED
