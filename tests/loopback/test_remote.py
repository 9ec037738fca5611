"""Answers that name their images by URI, from the simulator to `status` and `verify`."""

from collections import Counter
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.simulator import Simulator
from tests.loopback.commands import KEY, manifest, rows, run, use_key_and_state

pytestmark = pytest.mark.loopback

FAULTS = ("file-uri", "file-uri-404-once", "file-uri-404", "file-uri-page")


def test_what_is_not_fetched_is_fetched_before_it_is_paid_for_again(
    tmp_path: Path,
    server: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failed row holds the URI; the next run sends only what is gone for good, with a word; costs add up, and the key is in no URI."""
    use_key_and_state(monkeypatch, tmp_path)
    jobs = [{"id": fault, "prompt": f"{fault} [[fault:{fault} x1]]"} for fault in FAULTS]
    path, out = manifest(tmp_path, *jobs), tmp_path / "jobs.out"

    assert run(path, server, "--auth", "query") == 4
    first = {row["id"]: row for row in rows(out)}
    assert [first[fault]["status"] for fault in FAULTS] == ["succeeded", *3 * ["failed"]]
    for fault in FAULTS[1:]:
        assert [uri.partition("/files/")[0] for uri in first[fault]["remote_images"]] == [
            server.base_url
        ]
        assert first[fault]["remote_images"][0] in first[fault]["error"]["message"]
        assert KEY not in orjson.dumps(first[fault]).decode()
        assert first[fault]["cost_usd"] > 0
    assert main(["verify", str(out)]) == 0
    capsys.readouterr()

    assert run(path, server) == 4
    words = capsys.readouterr().err
    assert "file-uri-404: can't be reused, so it is sent" in words
    newest = {row["id"]: row for row in rows(out)}
    assert [newest[fault]["status"] for fault in FAULTS] == [*3 * ["succeeded"], "failed"]
    assert [newest[fault]["cost_usd"] > 0 for fault in FAULTS] == [True, False, True, False]
    asked = Counter(entry.prompt.split()[0] for entry in server.audit.entries)
    assert asked == {"file-uri": 1, "file-uri-404-once": 1, "file-uri-404": 2, "file-uri-page": 1}

    assert main(["verify", str(out)]) == 0
    capsys.readouterr()
    assert main(["status", str(out), "--json"]) == 0
    status = orjson.loads(capsys.readouterr().out)
    assert status["by_status"] == {"succeeded": 3, "failed": 1}
    paid_usd = [*(row["cost_usd"] for row in first.values()), newest["file-uri-404"]["cost_usd"]]
    assert status["all_rows"]["cost_usd"] == pytest.approx(sum(paid_usd))
