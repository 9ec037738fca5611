"""Texts with placeholders."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.manifest.placeholders import Text, parsed

VALUES = {"a": "{b}", "b c": "}}", "{": "never"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("a {a}!", "a {b}!"),
        ("{ a }{b c}", "{b}}}"),
        ("{{a}}{a}", "{a}{b}"),
        ("{{{a}}}", "{{b}}"),
        ("\n{a}\n", "\n{b}\n"),
    ],
)
def test_a_value_is_put_in_as_it_is(text: str, filled: str) -> None:
    """Braces of a value are no placeholders, and doubled braces of the text are braces."""
    found = parsed(text)
    assert isinstance(found, Text)
    assert found.filled(VALUES) == filled


@given(st.text("{}a ", max_size=12))
def test_any_text_can_be_written(text: str) -> None:
    """With its braces doubled it is itself, and has no placeholder."""
    assert parsed(text.replace("{", "{{").replace("}", "}}")) == text


@given(st.lists(st.text("{}a ", max_size=5), max_size=4), st.text(max_size=9))
def test_placeholders_are_found_among_braces(texts: list[str], value: str) -> None:
    """Between any texts, each placeholder becomes its value."""
    doubled = [text.replace("{", "{{").replace("}", "}}") for text in texts]
    found = parsed("{name}".join(doubled))
    filled = found.filled({"name": value}) if isinstance(found, Text) else found
    assert filled == value.join(texts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a { b", 'got a single { in "{ b"; write {{ for a brace'),
        ("a } b", 'got a single } in "a }"; write }} for a brace'),
        ("{a{b}}", 'got a single { in "{a{b}}"; write {{ for a brace'),
        ("a {} b", "{} names no column: write its name, or {{}} for braces"),
        ("a { } b", "{} names no column: write its name, or {{}} for braces"),
    ],
)
def test_a_brace_that_means_nothing_is_refused(text: str, message: str) -> None:
    """A text that is not one for sure is no guess."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 # its text is compared
        parsed(text)
    assert str(refused.value) == message
