import json
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.records import exact_json

CHANGED = {
    "beyond 64 bits": "123456789012345678901234",
    "the first that is too large": str(2**64),
    "the first that is too small": str(-(2**63) - 1),
    "300 digits": "7" * 300,
    "more digits than a double has": "0.1000000000000000055",
    "money with many places": "12345678901234567.89",
    "smaller than any double": "1e-400",
    "an exponent that is no number of Python": "1E-99999999999999999999",
    "a few digits of a tiny one": "1.2345678e-320",
}
KEPT = ["18446744073709551615", "-9223372036854775808", "1.10", "1e22", "5e-324", "-0.0", "42.0",
        "0.30000000000000004", "1e-100", "100000000000000000000000e-10"]  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_number_that_orjson_changes_is_written_as_it_was(name: str) -> None:
    """Its text comes back unchanged, and the quick test suspects it."""
    text = f'{{"a":{{"b":[1,{CHANGED[name]}]}}}}'.encode()
    assert exact_json.may_change(text)
    assert orjson.dumps(exact_json.loads(text), exact_json.written) == text
    assert orjson.dumps(orjson.loads(text)) != text


@pytest.mark.parametrize("number", KEPT)
def test_other_numbers_are_python_s_own(number: str) -> None:
    """A number that keeps its value is an int or a float."""
    (value,) = exact_json.loads(f"[{number}]".encode())
    assert type(value) in (int, float)
    assert value == json.loads(number)


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-9, 9))
def test_no_value_changes(number: float | Decimal) -> None:
    """Whatever the number, its decimal value is the same after a line was read and written."""
    text = f'{{"a":{str(number).lower()}}}'.encode()
    read = exact_json.loads if exact_json.may_change(text) else orjson.loads
    written = orjson.dumps(read(text), exact_json.written)
    assert json.loads(written, parse_float=Decimal) == json.loads(text, parse_float=Decimal)


def test_users_get_python_s_numbers() -> None:
    """A whole number is an int of any size, a decimal the nearest float."""
    found = exact_json.loads(b'{"a": [123456789012345678901234, {"b": 0.1000000000000000055}]}')
    assert exact_json.plain(found) == {"a": [123456789012345678901234, {"b": 0.1}]}


def test_what_is_no_number_is_no_json() -> None:
    """Other values are refused as orjson itself refuses them."""
    with pytest.raises(TypeError):
        orjson.dumps({"a": object()}, exact_json.written)
