"""`python -m tests.pictures jobs/pictures`: takes the README's pictures of a run against the simulator: its terminal, and its review.

It needs Chromium and tmux on the PATH. The manifests are below; nothing else is made up.
"""

import argparse
import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import orjson
from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

from gemini_batch.cli import main as gemini_batch
from gemini_batch.simulator import SimulatorConfig
from tests.simulated import simulator

JOBS = Path(__file__).parent.parent / "jobs"
SIZE = {"width": 1280, "height": 860}
MOST_BYTES = 150_000
MARKS = "p5pxp4"
TERMINAL_JOBS, TERMINAL_S = 150, 72.0
MANIFEST = (
    {"id": "banner/mountains", "prompt": "A serene mountain landscape at sunset", "aspect_ratio": "16:9"},
    {"id": "mascot/robot", "prompt": "A cute robot mascot waving, flat colours", "aspect_ratio": "1:1", "variants": 2},
    {"id": "story/coffee", "prompt": "A cup of coffee on a windowsill, rain on the glass", "aspect_ratio": "9:16"},
    {"id": "edit/rainbow", "prompt": "Add a rainbow in the sky", "images": ["inputs/lake.jpg"], "aspect_ratio": "4:3"},
    {"id": "style/village", "prompt": "Transform this into Van Gogh's Starry Night style", "images": ["inputs/village.jpg"],
     "modalities": ["TEXT", "IMAGE"]},
    {"id": "group", "parts": [{"text": "A group photo of these people"}, {"image": "inputs/ada.png"}, {"image": "inputs/ben.png"},
                              {"image": "inputs/cleo.png"}], "aspect_ratio": "16:9"},
    {"id": "poster/jazz", "prompt": "A poster for a jazz night: a double bass, Friday 9 pm", "aspect_ratio": "3:4"},
    {"id": "recipe/shakshuka", "prompt": "Shakshuka in an iron pan, seen from above", "aspect_ratio": "4:5"},
    {"id": "product/chair", "prompt": "The armchair in a bright room", "images": ["inputs/armchair.png"]},
    {"id": "scene/duel", "prompt": "A duel at dawn", "aspect_ratio": "3:2"},
    {"id": "icons/leaf", "prompt": "A leaf as an app icon, soft shadow", "aspect_ratio": "1:1"},
)  # fmt: skip
FAULTS = """\
[[rules]]
fault = "image-safety"
match = "duel"

[[rules]]
fault = "503"
match = "app icon"
"""


def main() -> int:
    """Run, review, and take pictures of both; return the exit code."""
    given = argparse.ArgumentParser(
        prog="python -m tests.pictures", description="Take the README's pictures."
    )
    given.add_argument("into", type=Path, metavar="DIR", help="where they go")
    into: Path = given.parse_args().into
    browser = (
        shutil.which("chromium")
        or shutil.which("chromium-browser")
        or shutil.which("google-chrome")
    )
    if browser is None:
        sys.exit("no Chromium on the PATH")
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        with _review(_run(Path(folder))) as page:
            for scheme, keys in (("light", MARKS), ("dark", "")):
                _take(browser, page, scheme, keys, into / f"review-{scheme}.jpg")
        _take_terminal(browser, Path(folder), into / "terminal.png")
    return 0


def _run(folder: Path) -> Path:
    """Run the manifest, and return its output folder."""
    shutil.copytree(JOBS / "inputs", folder / "inputs")
    manifest, faults = folder / "spring.jsonl", folder / "faults.toml"
    manifest.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in MANIFEST))
    faults.write_text(FAULTS)
    environment = {"GEMINI_API_KEY": "any", "GEMINI_BATCH_STATE_DIR": str(folder / "state")}
    with (
        patch.dict(os.environ, environment),
        simulator(SimulatorConfig(tier="unlimited", faults=faults)) as server,
    ):
        gemini_batch(
            [
                "run",
                str(manifest),
                "--base-url",
                server.base_url,
                "--rpm",
                "6000",
                "--max-attempts",
                "1",
            ]
        )
    return folder / "spring.out"


@contextmanager
def _review(out: Path) -> Iterator[str]:
    """Serve the review of an output folder, and yield its address."""
    command = [sys.executable, "-m", "gemini_batch", "review", str(out), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


def _take_terminal(browser: str, folder: Path, into: Path) -> None:
    """Let a run go on in a terminal of its own for a while, and take a picture of what it shows."""
    manifest, faults = folder / "nightly.jsonl", folder / "terminal.toml"
    jobs = (
        {"id": f"icons/{number:03}", "prompt": f"An icon of the number {number}"}
        for number in range(TERMINAL_JOBS)
    )
    manifest.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
    faults.write_text('[rates]\n"503" = 0.03\n"image-safety" = 0.02\n')
    settings = SimulatorConfig(
        tier="unlimited",
        requests_per_min=60,
        latency_s=8.0,
        pixels=64,
        faults=faults,
    )
    flags = ["--tier", "tier-2", "--model", "gemini-3-pro-image"]
    terminal = ["tmux", "-L", f"pictures-{os.getpid()}", "-f", "/dev/null"]
    with simulator(settings) as server:
        run = [
            sys.executable,
            "-m",
            "gemini_batch",
            "run",
            manifest.name,
            "--base-url",
            server.base_url,
            *flags,
        ]
        command = f"cd {shlex.quote(str(folder))}; GEMINI_API_KEY=any GEMINI_BATCH_STATE_DIR=terminal {shlex.join(run)}"
        subprocess.run(
            [*terminal, "new-session", "-d", "-x", "100", "-y", "22", command], check=True
        )
        try:
            time.sleep(TERMINAL_S)
            shown = subprocess.run(
                [*terminal, "capture-pane", "-p", "-e"], check=True, capture_output=True
            ).stdout
        finally:
            subprocess.run([*terminal, "kill-server"], check=True)
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.decode().strip("\n")))
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--headless"]
        )
        opened = chromium.new_page()
        opened.set_content(console.export_svg(title="gemini-batch run nightly.jsonl"))
        opened.locator("svg").first.screenshot(path=into, omit_background=True)
        chromium.close()
    with Image.open(into) as picture:
        picture.quantize(64).save(into, optimize=True)


def _take(browser: str, page: str, scheme: str, keys: str, into: Path) -> None:
    """Take a picture of the page, once these keys were pressed."""
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--headless"]
        )
        opened = chromium.new_context(viewport=SIZE, color_scheme=scheme).new_page()  # type: ignore[arg-type]  # it wants literals
        opened.goto(page)
        opened.wait_for_selector("img")
        for key in keys:
            opened.keyboard.press(key)
        opened.evaluate("scrollTo(0, 0)")
        opened.wait_for_timeout(1_000)
        opened.screenshot(path=into, type="jpeg", quality=82)
        chromium.close()
    size_bytes = into.stat().st_size
    if size_bytes > MOST_BYTES:
        sys.exit(f"{into}: has {size_bytes:,} bytes; allowed: {MOST_BYTES:,}")


if __name__ == "__main__":
    sys.exit(main())
