import pytest

from gemini_batch.output import brief_rows


@pytest.fixture(autouse=True)
def _brief_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read rows as those of a long file; the tests of other rings read those of short ones."""
    monkeypatch.setattr(brief_rows, "MIN_BYTES", 0)
