"""Compare a bucket with a folder: CPU of an image of 1.5 MB, memory of 128 images of 20 MB in flight."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from measure import FOLDER, Goal, Report, Round, arguments, server, workplace

IMAGE_BYTES, LARGE_BYTES = 1_500_000, 20_000_000


@contextmanager
def bucket(pause_ms: float = 0.0) -> Iterator[dict[str, str]]:
    """Start a bucket and give the environment for it."""
    command = [sys.executable, str(FOLDER / "bucket_server.py"), str(pause_ms)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(process.stdout.readline())}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            # As over TLS, whose encryption is the system's price of it, and is not counted here.
            "AWS_UNSIGNED_PAYLOAD": "true",
        }
        process.stdin.close()


def run(folder: Path, url: str, calls: int, in_flight: int, environment: dict[str, str]) -> Round:
    """Run a manifest in a process of its own; into a bucket if there is an environment for one."""
    folder.mkdir()
    jobs = folder / "jobs.jsonl"
    lines = (json.dumps({"id": f"n{number}", "prompt": "A robot"}) for number in range(calls))
    jobs.write_text("\n".join(lines))
    out = ["--out", "s3://pictures/x", "--scratch", "scratch"] if environment else []
    command = [sys.executable, "-m", "gemini_batch", "run", "jobs.jsonl", "--base-url", url, *out]
    command += ["--quiet", "--concurrency", str(in_flight), "--rpm", "100000", "--rpd", "1000000"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ
        | environment
        | {
            "PYTHONPATH": str(FOLDER.parent),
            "GEMINI_API_KEY": "AIzaSy-a-key-of-a-benchmark-000000000000",
            "GEMINI_BATCH_STATE_DIR": str(folder / "state"),
        },
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the run ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "cpu_ms": (used.ru_utime + used.ru_stime) * 1000,
        "rss_mb": used.ru_maxrss / 1024,
    }


def cpu_ms_an_image(folder: Path, url: str, calls: int, environment: dict[str, str]) -> float:
    """Return the CPU of an image: of many less that of few, which is the start's."""
    name = f"{len([*folder.iterdir()])}"
    many = run(folder / f"{name}m", url, calls, 16, environment)
    few = run(folder / f"{name}f", url, 8, 8, environment)
    return (many["cpu_ms"] - few["cpu_ms"]) / (calls - 8)


def main() -> None:
    """Measure both, and compare with the goals."""
    options = arguments(__doc__, repeats=3)
    report = Report("A bucket", options)
    calls, large = (60, 32) if options.quick else (300, 128)
    extra, local = [], []
    with workplace(options.folder) as folder, server() as url:
        image_url = f"{url}/answer={IMAGE_BYTES * 4 // 3}"
        for _ in range(options.repeats):
            local.append(cpu_ms_an_image(folder, image_url, calls, {}))
            with bucket() as environment:
                extra.append(cpu_ms_an_image(folder, image_url, calls, environment) - local[-1])
        large_url = f"{url}/answer={LARGE_BYTES * 4 // 3},together={large},gap_ms=20"
        with bucket(5.0) as environment:
            held = run(folder / "large", large_url, large, large, environment)
    print(f"CPU an image of 1.5 MB into a folder: {statistics.median(local):.2f} ms\n")
    report.goals += [
        Goal(
            "CPU an image of 1.5 MB, beside that of a folder",
            round(statistics.median(extra), 2),
            "ms",
            most=2.5,
        ),
        Goal(f"RSS, {large} images of 20 MB in flight", round(held["rss_mb"]), "MB", most=200),
    ]
    report.write()


if __name__ == "__main__":
    main()
