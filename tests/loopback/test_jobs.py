"""The sample manifests in `jobs/`: right, small, and every one of them runs."""

import json
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from gemini_batch.cli import main
from gemini_batch.records.job import Job
from gemini_batch.simulator import SimulatorConfig
from tests.simulated import simulator

pytestmark = pytest.mark.loopback

JOBS = Path(__file__).parents[2] / "jobs"
MANIFESTS = {path.stem: path for path in sorted(JOBS.glob("*.jsonl"))}
USE_CASES = {
    "text_to_image",
    "image_editing",
    "style_transfer",
    "composition",
    "google_batch_format",
}
RATIOS = {"1:1", "16:9", "9:16", "4:3", "3:4", "5:4", "4:5"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GEMINI_BATCH_BASE_URL", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))


def lines(name: str) -> list[dict[str, Any]]:
    """Return the jobs of a manifest, as they are written."""
    return [json.loads(line) for line in MANIFESTS[name].read_text("utf-8").splitlines()]


def found(value: Any, name: str) -> list[Any]:
    """Return every value of `name`, spelt so, anywhere below `value`."""
    if isinstance(value, list):
        return [hit for item in value for hit in found(item, name)]
    if not isinstance(value, dict):
        return []
    here = [value[name]] if name in value else []
    return here + [hit for item in value.values() for hit in found(item, name)]


ALL = [job for name in MANIFESTS for job in lines(name)]
INPUTS = sorted(
    {
        path
        for job in ALL
        for path in [*job.get("images", []), *found(job.get("parts", []), "image")]
    }
)


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_manifest_runs_and_each_call_gets_its_picture(name: str, tmp_path: Path) -> None:
    """Each sample manifest is right as it stands, and on the simulator every call of it succeeds with an image."""
    jobs = [Job.model_validate(job) for job in lines(name)]
    calls = sum(job.variants for job in jobs)
    limits = ["--rpm", "6000", "--rpd", "100000"]
    with simulator(SimulatorConfig(tier="unlimited", pixels=16, latency_s=0.0)) as server:
        flags = ["--base-url", server.base_url, *limits, "--out", str(tmp_path / "out"), "--quiet"]
        assert main(["run", str(MANIFESTS[name]), *flags]) == 0
        assert [entry.http_status for entry in server.audit.entries] == [200] * calls
    rows = [
        orjson.loads(line) for line in (tmp_path / "out/results.jsonl").read_bytes().splitlines()
    ]
    assert [row["status"] for row in rows] == ["succeeded"] * calls
    for row in rows:
        (image,) = row["images"]
        with Image.open(tmp_path / "out" / image["path"]) as picture:
            assert max(picture.size) == 16


def test_the_table_runs_and_each_call_gets_its_picture(tmp_path: Path) -> None:
    """The sample table is right as it stands."""
    flags = ["--simulate", "--rpm", "6000", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["run", str(JOBS / "posters.csv"), *flags]) == 0
    rows = [
        orjson.loads(line) for line in (tmp_path / "out/results.jsonl").read_bytes().splitlines()
    ]
    assert sorted(row["id"] for row in rows) == [
        "poster/chess",
        "poster/jazz",
        "poster/jazz.2",
        "poster/market",
    ]


def test_the_template_makes_a_manifest_that_is_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each product in each room, and once alone; next to the template, its images are found."""
    monkeypatch.chdir(JOBS.parent)
    files = ("jobs/templates/shop.jsonl", "jobs/templates/products.csv")
    shutil.copytree(JOBS / "inputs", tmp_path / "jobs/inputs")
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / file)
    monkeypatch.chdir(tmp_path)
    assert main(["expand", files[0], "--vars", files[1]]) == 0
    made = capsys.readouterr().out
    Path("jobs/templates/made.jsonl").write_text(made)
    assert made.splitlines()[0].startswith('{"id":"shop/CH-204/loft","prompt":"Place this armchair')
    assert main(["plan", "jobs/templates/made.jsonl", "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out)["calls"] == 8


def test_there_is_a_manifest_for_each_use_case() -> None:
    """The five use cases and the quickstart are there, each of three to six jobs."""
    assert {*USE_CASES, "quickstart"} <= set(MANIFESTS)
    assert all(3 <= len(lines(name)) <= 6 for name in MANIFESTS)


def test_quickstart_covers_every_use_case() -> None:
    """Six jobs: text to image twice, editing, style transfer, composition, a line of Google's Batch API."""
    jobs = lines("quickstart")
    assert len(jobs) == 6
    assert sum("prompt" in job and "images" not in job for job in jobs) == 2
    assert sum("images" in job for job in jobs) == 2
    assert sum(job.get("modalities") == ["TEXT", "IMAGE"] for job in jobs) == 1
    assert sum(len(found(job.get("parts", []), "image")) > 1 for job in jobs) == 1
    assert sum("request" in job for job in jobs) == 1


def test_together_they_show_all_that_can_be_asked() -> None:
    """Every field of a job, every aspect ratio of the use cases and every size occur; so do both spellings of a request."""
    samples = [job for name in USE_CASES for job in lines(name)]
    fields = {"id" if name == "key" else name for job in samples for name in job}
    assert fields == set(Job.model_fields)
    ratios = {*found(samples, "aspect_ratio"), *found(samples, "aspectRatio")}
    assert ratios >= RATIOS
    assert {*found(samples, "image_size"), *found(samples, "imageSize")} == {"1K", "2K", "4K"}
    assert {len(asked) for asked in found(samples, "modalities")} == {1, 2}
    google = lines("google_batch_format")
    for camel, snake in (
        ("generationConfig", "generation_config"),
        ("imageConfig", "image_config"),
    ):
        assert found(google, camel)
        assert found(google, snake)
    assert all(uri.startswith("https://") for uri in found(google, "fileUri"))
    assert len(found(google, "fileUri")) == len(found(google, "inline_data")) == 1


@pytest.mark.parametrize("name", INPUTS)
def test_input_images_are_real_and_small(name: str) -> None:
    """Each input image opens, and is small enough for a repository."""
    assert (JOBS / name).stat().st_size < 40_000
    with Image.open(JOBS / name) as image:
        image.load()
        assert max(image.size) <= 512


def test_no_input_image_is_left_over() -> None:
    """Every file in `jobs/inputs/` is used by a manifest."""
    assert sorted(f"inputs/{path.name}" for path in (JOBS / "inputs").iterdir()) == INPUTS
