from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.hashmap import MASK, HashMap64, fingerprint, fingerprints

# Few low bits: most keys fall into the same slots, as they would in a map that is nearly full.
crowded = st.builds(
    lambda high, low: (high << 40 | low) or 1, st.integers(0, 2**24 - 1), st.integers(0, 3)
)
keys = crowded | st.integers(1, MASK)


@given(st.lists(st.tuples(keys, st.integers(0, MASK)), max_size=200), st.lists(keys))
def test_map_holds_what_a_dict_would(pairs: list[tuple[int, int]], others: list[int]) -> None:
    """The map returns the same values as a dict after any sequence of puts."""
    expected: dict[int, int] = {}
    actual = HashMap64()
    for key, value in pairs:
        expected[key] = value
        actual.put(key, value)
        assert actual.get(key) == value
    assert len(actual) == len(expected)
    found = [expected.get(key) for key in [*expected, *others]]
    assert [actual.get(key) for key in [*expected, *others]] == found
    assert actual.get_all([*expected, *others]) == found


@given(st.lists(st.tuples(keys, st.integers(0, MASK)), max_size=200))
def test_claim_takes_only_what_is_free(pairs: list[tuple[int, int]]) -> None:
    """The first claim of a key sets its value; later ones return that value."""
    expected: dict[int, int] = {}
    actual = HashMap64()
    for key, value in pairs:
        assert actual.claim(key, value) == expected.get(key)
        expected.setdefault(key, value)
    assert [actual.get(key) for key in expected] == list(expected.values())


@given(st.lists(st.lists(keys, max_size=60), max_size=6))
def test_many_claims_at_once_stop_at_a_key_that_is_taken(lists: list[list[int]]) -> None:
    """Keys get consecutive values up to the first one that has one; nothing else changes."""
    expected: dict[int, int] = {}
    actual = HashMap64()
    for many in lists:
        first = 1_000 + len(expected)
        number = actual.claim_next(many, first)
        assert number == next(
            (n for n, key in enumerate(many) if key in {*expected, *many[:n]}), len(many)
        )
        expected |= zip(many[:number], range(first, first + number), strict=True)
        assert len(actual) == len(expected)
    assert [actual.get(key) for many in lists for key in many] == [
        expected.get(key) for many in lists for key in many
    ]


def test_map_grows_past_its_first_capacity() -> None:
    """Nothing is lost while the map doubles several times."""
    actual = HashMap64()
    for number in range(1, 2_501):
        actual.put(number * 2**10, number)
    assert len(actual) == 2_500
    assert all(actual.get(number * 2**10) == number for number in range(1, 2_501))
    assert actual.get(3) is None


@given(st.text() | st.binary() | st.tuples(st.text(), st.integers() | st.none()))
def test_fingerprint_is_a_key_of_the_map(value: str | bytes | tuple[str | int | None, ...]) -> None:
    """A fingerprint has 64 bits, is never the 0 of a vacant slot, and is equal for equal values."""
    assert 0 < fingerprint(value) <= MASK
    assert [fingerprint(value)] * 2 == fingerprints([value] * 2)
