import orjson
from hypothesis import HealthCheck, example, given, settings

from tests.torture import fuzz, fuzz_ledger

# `python -m tests.torture --fuzz 10000` is the long form.
SHORT = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


@SHORT
@given(fuzz.MANIFEST)
def test_any_manifest(manifest: bytes) -> None:
    """A manifest is planned, or refused with its lines, whatever is in it."""
    fuzz.check_manifest(manifest)


@settings(SHORT, max_examples=4)
@given(fuzz.RUN_OF_ANSWERS)
def test_any_answers(bodies: list[tuple[bytes, bytes]]) -> None:
    """Each call of a run ends with a row, whatever the server answers."""
    fuzz.check_answers(bodies)


@settings(SHORT, max_examples=3)
@given(fuzz.RUN_OF_DRESSES)
def test_any_dress(made: list[fuzz.Dressed]) -> None:
    """Each picture that was paid for is kept, whatever it came in."""
    fuzz.check_dresses(made)


@SHORT
@example((orjson.dumps(fuzz.ROWS[0] | {"cost_usd": "free"}), True, b"{}", b"0", b"", ""))
@example((orjson.dumps(fuzz.ROWS[0] | {"usage": [1]}), True, b"[]", b"", b"[1]", ""))
@example((b"", False, b"{}", b"%020d" % 3000, b"", "gone"))
@example((orjson.dumps(fuzz.ROWS[0]), True, b"{}", b"%020d" % 10**18, b"", "link"))
@given(fuzz.RESULTS)
def test_any_results(results: fuzz.Results) -> None:
    """Each command that reads an output folder ends with a code and words, whatever is in it."""
    fuzz.check_results(results)


@SHORT
@given(fuzz_ledger.LEDGER)
def test_any_ledger(damage: fuzz_ledger.Damage) -> None:
    """Each command that reads the ledger ends with a code and words, whatever became of its file."""
    fuzz_ledger.check_ledger(damage)
