import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.gallery.writer import write_gallery
from gemini_batch.simulator import SimulatorConfig
from tests.browser.gallery import CALLS, Opened, jobs
from tests.simulated import simulator
from tests.unit.gallery.folder import picture, place

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run against the simulator, with its gallery."""
    folder = tmp_path_factory.mktemp("gallery")
    for name, colour in (("lake", "teal"), ("gone", "gray")):
        place(folder, f"inputs/{name}.png", picture(colour, (64, 48)))
    manifest = folder / "jobs.jsonl"
    manifest.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs()))
    with (
        pytest.MonkeyPatch.context() as patch,
        simulator(SimulatorConfig(tier="unlimited", pixels=64, latency_s=0.0)) as server,
    ):
        patch.setenv("GEMINI_API_KEY", "AIzaSy-any")
        patch.setenv("GEMINI_BATCH_STATE_DIR", str(folder / "state"))
        flags = ["--rpm", "60000", "--rpd", "100000", "--max-attempts", "1", "--quiet"]
        assert main(["run", str(manifest), "--base-url", server.base_url, *flags]) == 4
    out = folder / "jobs.out"
    next((out / "images/ways").glob("missing.*")).unlink()
    (folder / "inputs/gone.png").unlink()
    assert write_gallery(out).calls == CALLS
    return out


@pytest.fixture(scope="session")
def browser(out: Path) -> Iterator["Browser"]:  # noqa: ARG001 # the run comes first, see below
    """The system's Chromium with a new profile; after the run: Playwright runs a loop in this thread."""
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if executable is None:
        if os.environ.get("GEMINI_BATCH_NEEDS_BROWSER"):
            pytest.fail("no Chromium on the PATH, and GEMINI_BATCH_NEEDS_BROWSER asks for one")
        pytest.skip("no Chromium on the PATH")
    with sync_api.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=executable,
            args=["--no-sandbox", "--headless"],
            # With a mouse, a scroll bar takes room.
            ignore_default_args=["--hide-scrollbars"],
        )
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Opened]:
    """A new page; at the end only its own script has run, without errors."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-US"
    )
    context.set_default_timeout(5_000)
    opened = Opened(context.new_page())
    yield opened
    assert opened.page.evaluate("window.sentinel") is None
    assert opened.complaints == []
    assert {url.split(":", 1)[0] for url in opened.requests} <= {"file", "data"}
    context.close()


@pytest.fixture
def page(opened: Opened, out: Path) -> "Page":
    """The gallery of the simulated run."""
    return opened.go(out)
