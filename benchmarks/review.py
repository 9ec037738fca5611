"""Smoothness of the review with 2,000 pictures: time of a frame in headless Chromium while scrolling, and while marking by keys."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from measure import FOLDER, Goal, Report, Round, arguments, median, workplace
from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURES, SIDE_PX = 2_000, 512
MARKS, KEY_EVERY_MS = 150, 50  # twenty keys a second, faster than a user chooses
SCROLL_PX, SCROLLS = 240, 150  # of a wheel, each

# What the machine does with the same wheel and nothing to show.
FLOOR = "scrolling a page of plain lines"
LINES = "data:text/html,<body>" + "<p style='margin:0;height:100px'>a line</p>" * 800

# Frames are counted by the page itself. A frame that is late has waited for the one before.
COUNT = """() => {
  window.frames_ms = [];
  let before = performance.now();
  const frame = (now) => {
    window.frames_ms.push(now - before);
    before = now;
    if (window.frames_ms.length < 100000) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}"""


def make(out: Path) -> None:
    """Write a folder as a run leaves it: each call has a picture of its own."""
    (out / "images").mkdir(parents=True)
    with (out / "results.jsonl").open("w") as rows:
        for number in range(PICTURES):
            file = BytesIO()
            Image.effect_noise((SIDE_PX, SIDE_PX // 2), 40 + number % 50).save(file, "JPEG")
            data = file.getvalue() + str(number).encode()
            path = f"images/n{number}.jpg"
            (out / path).write_bytes(data)
            rows.write(json.dumps(row(number, path, data)) + "\n")


def row(number: int, path: str, data: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    image = {"path": path, "sha256": sha256, "size_bytes": len(data), "width": SIDE_PX}
    return {
        "id": f"scenes/n{number}",
        "line": number + 1,
        "status": "succeeded",
        "images": [image | {"height": SIDE_PX // 2, "mime_type": "image/jpeg"}],
        "drafts": [],
        "inputs": [],
        "prompt": f"Scene {number} of a long walk" + " through a quiet town" * (number % 9),
        "usage": {"total_tokens": 1_300},
        "cost_usd": 0.134,
        "model": "gemini-3-pro-image-preview",
        "endpoint": "simulator",
        "request_sha256": "00",
        "attempts": 1,
        "latency_s": 20.5,
        "finished_at": f"2026-11-22T12:{number // 60 % 60:02}:{number % 60:02}Z",
        "metadata": {"style": ("ink", "pixel", "oil")[number % 3]},
    }


@contextmanager
def served(out: Path) -> Iterator[str]:
    """Start the command, and give its address."""
    gemini_batch = [sys.executable, "-m", "gemini_batch"]
    subprocess.run(  # makes the thumbnails
        [*gemini_batch, "gallery", str(out)], cwd=FOLDER.parent, check=True, capture_output=True
    )
    command = [*gemini_batch, "review", str(out), "--no-browser"]
    with subprocess.Popen(
        command, cwd=FOLDER.parent, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        yield process.stdout.readline().strip()
        process.terminate()


def scroll(page: Page) -> None:
    page.mouse.move(600, 500)
    for number in range(SCROLLS):
        page.mouse.wheel(0, SCROLL_PX if number < SCROLLS * 2 // 3 else -SCROLL_PX)
        page.wait_for_timeout(16)


def mark(page: Page) -> None:
    page.locator('[data-index="0"]').focus()
    for number in range(MARKS):
        page.keyboard.press("px3"[number % 3])
        page.wait_for_timeout(KEY_EVERY_MS)


def mark_in_viewer(page: Page) -> None:
    page.locator('[data-index="0"]').click()
    mark(page)
    page.keyboard.press("Escape")


DEEDS: dict[str, Callable[[Page], None]] = {
    "scrolling": scroll,
    "marking in the grid": mark,
    "marking in the viewer": mark_in_viewer,
}


def measured(page: Page, deed: Callable[[Page], None]) -> Round:
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)
    page.evaluate(COUNT)
    deed(page)
    frames_ms: list[float] = sorted(page.evaluate("window.frames_ms.splice(0)"))
    share = lambda part: frames_ms[min(len(frames_ms) - 1, int(len(frames_ms) * part))]  # noqa: E731
    return {
        "frames": len(frames_ms),
        "p50_ms": share(0.5),
        "p95_ms": share(0.95),
        "p99_ms": share(0.99),
        "max_ms": frames_ms[-1],
    }


def main() -> None:
    options = arguments(__doc__, repeats=3)
    report = Report("Review", options)
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    rounds: dict[str, list[Round]] = {name: [] for name in (FLOOR, *DEEDS)}
    with workplace(options.folder) as folder, sync_playwright() as engine:
        make(folder / "jobs.out")
        browser = engine.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--headless"]
        )
        report.conditions["Chromium"] = browser.version
        with served(folder / "jobs.out") as url:
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(url)
            for _ in range(options.repeats):
                page.goto(LINES)
                page.wait_for_timeout(1_000)
                rounds[FLOOR].append(measured(page, scroll))
                for name, deed in DEEDS.items():
                    page.goto("about:blank")
                    page.goto(url)
                    page.wait_for_timeout(1_000)
                    rounds[name].append(measured(page, deed))
        browser.close()
    report.compared(
        f"{PICTURES:,} pictures, {options.repeats} rounds",
        rounds,
        {
            name: (lambda of, figure=figure: f"{median(of, figure):.1f}")  # type: ignore[misc]
            for name, figure in (
                ("p50 ms", "p50_ms"),
                ("p95 ms", "p95_ms"),
                ("p99 ms", "p99_ms"),
                ("longest ms", "max_ms"),
            )
        },
    )
    for name in DEEDS:
        of = f"Frame of the review while {name}, {PICTURES:,} pictures, p95"
        report.goals.append(Goal(of, median(rounds[name], "p95_ms"), "ms", most=25))
    report.write()


if __name__ == "__main__":
    main()
