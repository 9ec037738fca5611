"""How long a long manifest takes until its first request is sent, and how much memory: new, mixed, and 99 % done."""

import asyncio
import os
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from measure import (
    FOLDER,
    Goal,
    Report,
    Round,
    arguments,
    median,
    peak_rss_bytes,
    server,
    workplace,
)

MODEL = "gemini-3-pro-image-preview"
KEY = "no-key-is-needed"
COLUMNS: dict[str, Callable[[Sequence[Round]], str]] = {
    "s to the first request": lambda rounds: f"{median(rounds, 'first_request_s'):.2f}",
    "CPU s": lambda rounds: f"{median(rounds, 'cpu_s'):.2f}",
    "peak RSS MB": lambda rounds: f"{median(rounds, 'peak_rss_mb'):.0f}",
    "manifest MB": lambda rounds: f"{median(rounds, 'manifest_mb'):.0f}",
    "results MB": lambda rounds: f"{median(rounds, 'results_mb'):.0f}",
}


def write_manifest(path: Path, lines: int, others: int = 0) -> None:
    """Write jobs such as people have; every second one leaves its id to be derived.

    One of so many `others` has a field that is checked by a model.
    """
    with path.open("wb") as file:
        for number in range(lines):
            job = {
                "prompt": f"A cute robot mascot of the series {number % 1000}, number {number}, on a plain background",
                "aspect_ratio": ("1:1", "16:9", "4:5")[number % 3],
                "image_size": "2K",
                "metadata": {"sku": f"SKU-{number:07}"},
            }
            if number % 2:
                job["id"] = f"series-{number % 1000}/robot-{number}"
            if others and number % others == 0:
                job["seed"] = number
            file.write(orjson.dumps(job, option=orjson.OPT_APPEND_NEWLINE))


def write_results(folder: Path, manifest: Path, out: Path, endpoint: str, share: float) -> None:
    """Write the rows of a run that was stopped after this share, each as a real run wrote one."""
    from gemini_batch.inputs import Inputs
    from gemini_batch.manifest import Manifest
    from gemini_batch.output import OutputFolder, inflight
    from gemini_batch.output.paths import RESULTS
    from gemini_batch.plan import Planner, request_sha256

    row = orjson.loads(_one_row(folder, endpoint))
    planner = Planner(MODEL, Inputs(folder).resolve)
    with Manifest(manifest) as jobs, (out / RESULTS).open("wb") as file:
        every = round(1 / (1 - share))
        for _ in jobs.scan():
            pass
        for index in range(len(jobs)):
            if index % every == every - 1:
                continue
            job = jobs.read(index)
            request = planner.request(job, index)
            row |= {"id": job.id, "line": index + 1, "prompt": job.prompt, "metadata": job.metadata}
            row["request_sha256"] = request_sha256(request)
            row["images"][0] |= {"path": f"images/{job.id}.png", "sha256": row["request_sha256"]}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        size_bytes = file.tell()
    store = OutputFolder(out)
    store.private.mkdir(exist_ok=True)
    store.note_durable(size_bytes)
    inflight.forget(store.private)  # it is of the run before, which was new


def _one_row(folder: Path, endpoint: str) -> bytes:
    """Return a row as the engine writes it."""
    from gemini_batch.config import Settings
    from gemini_batch.engine.setup import open_run
    from gemini_batch.records import Limits

    config = Settings("benchmark", Limits(), endpoint, None, MODEL, api_key=KEY)

    manifest = folder / "one.jsonl"
    write_manifest(manifest, 1)
    with server() as url, open_run(manifest, folder / "one.out", config, lambda _: None) as run:
        asyncio.run(run.send(url))
    return (folder / "one.out" / "results.jsonl").read_bytes()


def first_request(manifest: Path, out: Path, listening: socket.socket) -> Round:
    """Run the command, as people do, until its first request arrives."""
    command, environment, state = _command(manifest, out, listening.getsockname()[1])
    started_s = time.perf_counter()
    with (
        subprocess.Popen(
            command, cwd=FOLDER.parent, env=environment, stderr=subprocess.PIPE
        ) as process,
        _accepted(listening, process) as connection,
    ):
        connection.recv(1)
        figures = {
            "first_request_s": time.perf_counter() - started_s,
            "cpu_s": _cpu_s(process.pid),
            "peak_rss_mb": peak_rss_bytes(process.pid) / 1e6,
        }
        process.kill()
    shutil.rmtree(state, ignore_errors=True)
    return figures


def _command(manifest: Path, out: Path, port: int) -> tuple[list[str], dict[str, str], Path]:
    """Return a run, its environment, and the folder of its ledger."""
    state = out.with_suffix(".state")
    command = [sys.executable, "-m", "gemini_batch", "run", str(manifest), "--out", str(out)]
    # One call at a time: no second connection waits for the next round.
    command += ["--rpm", "100000", "--rpd", "100000000", "--concurrency", "1", "--quiet"]
    command += ["--base-url", f"http://127.0.0.1:{port}"]
    return (
        command,
        os.environ | {"GEMINI_API_KEY": KEY, "GEMINI_BATCH_STATE_DIR": str(state)},
        state,
    )


def end_a_run(manifest: Path, out: Path, port: int) -> None:
    """Let a run end that reaches no server: it leaves a snapshot of its plan."""
    command, environment, state = _command(manifest, out, port)
    command += ["--deadline", "1"]
    subprocess.run(command, cwd=FOLDER.parent, env=environment, capture_output=True, check=False)
    shutil.rmtree(state, ignore_errors=True)


def _accepted(listening: socket.socket, process: "subprocess.Popen[bytes]") -> socket.socket:
    while not select.select([listening], [], [], 1)[0]:
        if process.poll() is not None:
            _, words = process.communicate()
            raise SystemExit(
                f"the command ended with {process.returncode}, and has sent nothing: {words.decode()}"
            )
    return listening.accept()[0]


def _cpu_s(pid: int) -> float:
    try:
        times = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return float("nan")


SEED, NEW, DONE, SNAPSHOT = (
    "new, 10 % with a seed",
    "new",
    "99 % done",
    "99 % done, with the snapshot of the last run",
)
# Seconds to the first request, and peak RSS in MB, of a million lines.
GOALS: dict[str, tuple[float, float | None]] = {
    NEW: (4, 110),
    DONE: (8, None),
    SNAPSHOT: (1, 80),
}
FIGURES = {
    NEW: "10⁶ lines: all validated, planned, first request sent",
    DONE: "10⁶ lines, 99 % done, without a snapshot: resumed, first request sent",
    SNAPSHOT: "10⁶ lines, 99 % done: resumed, first request sent",
}


def main() -> None:
    options = arguments(__doc__, repeats=1)
    report = Report("Long manifests", options)
    sys.path.insert(0, str(FOLDER.parent))
    for lines in (10_000, 100_000) if options.quick else (100_000, 1_000_000):
        with workplace(options.folder) as folder:
            rounds = _rounds(folder, lines, options.repeats)
        report.compared(f"{lines:,} lines", rounds, COLUMNS)
        for name, (seconds, peak_mb) in GOALS.items() if lines == 1_000_000 else ():
            found_s, found_mb = (
                median(rounds[name], figure) for figure in ("first_request_s", "peak_rss_mb")
            )
            report.goals.append(Goal(FIGURES[name], found_s, "s", most=seconds))
            if peak_mb is not None:
                report.goals.append(
                    Goal(f"{FIGURES[name]}: peak RSS", found_mb, "MB", most=peak_mb)
                )
    report.write()


def _rounds(folder: Path, lines: int, repeats: int) -> dict[str, list[Round]]:
    rounds: dict[str, list[Round]] = {SEED: [], NEW: [], DONE: [], SNAPSHOT: []}
    manifest, out, port = folder / "jobs.jsonl", folder / "jobs.out", 0
    for name, done in rounds.items():
        if name != SNAPSHOT:
            write_manifest(manifest, lines, others=10 if name == SEED else 0)
        else:
            end_a_run(manifest, out, port)
        with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
            port = listening.getsockname()[1]  # its rows name it
            if name == DONE:
                write_results(folder, manifest, out, f"http://127.0.0.1:{port}", 0.99)
            for _ in range(repeats):
                figures = first_request(manifest, out, listening)
                figures["manifest_mb"] = manifest.stat().st_size / 1e6
                figures["results_mb"] = (out / "results.jsonl").stat().st_size / 1e6
                done.append(figures)
    return rounds


if __name__ == "__main__":
    main()
