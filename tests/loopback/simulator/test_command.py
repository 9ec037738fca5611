import argparse
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gemini_batch.simulator import Simulator, command
from gemini_batch.simulator.batch_faults import BATCH_FAULTS
from gemini_batch.simulator.faults import FAULTS
from tests.loopback.simulator.client import PRO, text

pytestmark = pytest.mark.loopback

RUN = (
    "import argparse, sys; from gemini_batch.simulator import command; parser = argparse.ArgumentParser(); "
    "command.add_arguments(parser); sys.exit(command.run(parser.parse_args()))"
)


def _parse(*flags: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(flags)


@contextmanager
def _running(*flags: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Run the command; yield the process, its URL and its line."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "--port", "0", "--latency", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, line.split()[3], line
        finally:
            process.kill()


def _post(url: str, key: str) -> int:
    request = urllib.request.Request(
        f"{url}/v1beta/models/{PRO}:generateContent",
        data=json.dumps(text("x")).encode(),
        headers={"x-goog-api-key": key, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as response:
            return int(response.status)
    except urllib.error.HTTPError as problem:
        with problem:
            return problem.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal(number: signal.Signals) -> None:
    """One line says where it is and how to use it; the first signal stops it, with exit code 0 and nothing on stderr."""
    with _running("--key", "secret-key") as (process, url, line):
        statuses = _post(url, "secret-key"), _post(url, "other")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert statuses == (200, 400)
    assert line == (
        f"Gemini simulator on {url} (requests so far: {url}/audit). Use it: "
        f"GEMINI_BATCH_BASE_URL={url} GEMINI_API_KEY=KEY python -m gemini_batch run jobs.jsonl --tier free\n"
    )
    assert (process.returncode, out, err) == (0, "", "")


POST = f"POST /v1beta/models/{PRO}:generateContent HTTP/1.1\r\nx-goog-api-key: "
MALFORMED = {
    "no colon": ("GET /audit HTTP/1.1\r\nno colon", b""),
    "long URL": (f"GET /{'a' * 20_000} HTTP/1.1", b""),
    "long header": (f"GET /audit HTTP/1.1\r\nX-Long: {'a' * 20_000}", b""),
    "version": ("GET / HTTP/9.9", b""),
    "URL": ("GET http://[:: HTTP/1.1", b""),
    "key of other letters": (f"{POST}\xff", b"{}"),
    "no gzip": (f"{POST}any\r\nContent-Encoding: gzip", b"{}"),
}


def test_a_malformed_request_is_its_clients_business() -> None:
    """What is no proper HTTP gets a 400, and nothing of it reaches the terminal of the person who runs the simulator."""
    statuses = {}
    with _running() as (process, url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        for name, (head, body) in MALFORMED.items():
            rest = (
                f"Host: {host}:{port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            with (
                socket.create_connection((host, int(port)), timeout=10) as connection,
                connection.makefile("rb") as answer,
            ):
                connection.sendall(f"{head}\r\n{rest}".encode("latin-1") + body)
                statuses[name] = answer.readline().split()[1]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert statuses == dict.fromkeys(MALFORMED, b"400")
    assert (process.returncode, out, err) == (0, "", "")


def test_busy_port(capsys: pytest.CaptureFixture[str]) -> None:
    """A port that is taken is one sentence on stderr, and exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert command.run(_parse("--port", str(port))) == 2
    assert capsys.readouterr().err == (
        f"gemini-batch: 127.0.0.1, port {port}: in use by another program; choose another port, or 0 for a free one\n"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rate", "503"], "--rate: got '503'; allowed: NAME=SHARE, such as 503=0.02"),
        (["--rate", "5003=0.1"], "unknown fault '5003'"),
        (["--latency", "slow"], "--latency: got 'slow'; allowed: seconds, or real"),
        (["--rate", "=0.1"], "--rate: got '=0.1'; allowed: NAME=SHARE, such as 503=0.02"),
        (
            ["--rate", "503=0.1", "--rate", "503=0.2"],
            "--rate: got 503 twice; allowed: each fault once",
        ),
        (["--latency", "inf"], "--latency: got inf; allowed: 0 or more seconds"),
        (["--latency", "nan"], "--latency: got nan; allowed: 0 or more seconds"),
        (["--minute", "0"], "--minute: got 0.0; allowed: more than 0 and up to 86,400 seconds"),
        (["--minute", "inf"], "--minute: got inf; allowed: more than 0 and up to 86,400 seconds"),
        (["--rpm", "-1"], "--rpm: got -1; allowed: 0 to 1,000,000,000,000"),
        (["--usd-per-10min", "nan"], "--usd-per-10min: got nan; allowed: 0 to 1,000,000,000,000"),
        (["--port", "99999"], "--port: got 99999; allowed: 0 to 65535"),
        (["--batch-turnaround", "-1"], "--batch-turnaround: got -1.0; allowed: 0 or more seconds"),
        (["--batch-tokens", "-1"], "--batch-tokens: got -1; allowed: 0 to 1,000,000,000,000"),
        (["--pixels", "100000"], "--pixels: got 100000; allowed: 8 to 8192"),
        (["--key", ""], "--key: can't be sent; allowed: at least one character"),
        (["--now", "2020-01-01T00:00:00+00:00"], "--now: the server's time can't go back"),
        (
            ["--now", "tomorrow"],
            "--now: got 'tomorrow'; allowed: a time such as 2026-11-22T23:59:00-08:00",
        ),
        (["--faults", "none.toml"], "none.toml: can't be read: No such file"),
    ],
)
def test_wrong_flags(
    flags: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flag that is wrong is one sentence on stderr, and exit code 2, before anything listens."""

    async def start(_simulator: Simulator) -> None:
        raise AssertionError("it listens")

    monkeypatch.setattr(Simulator, "start", start)
    assert command.run(_parse("--port", "0", *flags)) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_flags_reach_the_config() -> None:
    """Every flag does what it says."""
    config = command.config_from(
        _parse(
            *(
                "--port",
                "1",
                "--host",
                "::1",
                "--tier",
                "pay-as-you-go",
                "--rpm",
                "5",
                "--rpd",
                "6",
                "--tpm",
                "7",
            ),
            *(
                "--ipm",
                "8",
                "--usd-per-10min",
                "9.5",
                "--enforce",
                "bucket",
                "--minute",
                "3",
                "--rate",
                "503=0.02",
            ),
            *(
                "--rate",
                "500=0.1",
                "--seed",
                "4",
                "--key",
                "K",
                "--latency",
                "real",
                "--gzip",
                "--pixels",
                "64",
                "--batch-turnaround",
                "5",
                "--batch-tokens",
                "1000",
            ),
        )
    )
    assert (config.port, config.host, config.tier, config.enforce) == (
        1,
        "::1",
        "pay-as-you-go",
        "bucket",
    )
    assert (
        config.minute_limit,
        config.day_limit,
        config.tokens_per_min,
        config.images_per_min,
    ) == (5, 6, 7, 8)
    assert (config.usd_per_10min, config.minute_s, config.seed, config.key) == (9.5, 3, 4, "K")
    assert (config.rates, config.realistic_latency, config.gzip, config.pixels) == (
        {"503": 0.02, "500": 0.1},
        True,
        True,
        64,
    )
    assert (config.batch_turnaround_s, config.batch_tokens) == (5, 1000)


def test_list_of_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """Every fault can be listed with what it does."""
    assert command.run(_parse("--list-faults")) == 0
    said = capsys.readouterr().out
    words = [word for line in said.splitlines() if line.startswith("  ") for word in line.split()]
    assert [name for name in (*FAULTS, *BATCH_FAULTS) if name not in words] == []
    assert all(fault.summary in said for fault in BATCH_FAULTS.values())
    assert all(
        fault.summary in said
        for name, fault in FAULTS.items()
        if not name.startswith(("finish-", "block-"))
    )
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--tier free"),
        (["--tier", "pay-as-you-go", "--rpd", "50"], "--tier pay-as-you-go --rpd 50"),
        (["--tier", "unlimited"], "--rpm 6000 --rpd 100000"),
        (
            ["--tier", "unlimited", "--rpm", "9", "--usd-per-10min", "2.5"],
            "--rpd 100000 --rpm 9 --usd-per-10min 2.5",
        ),
        (["--minute", "2"], "--tier free --minute 2"),
    ],
)
def test_the_line_names_the_limits(
    flags: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that it tells a person to use knows the very limits that it enforces."""

    class Terminal(io.StringIO):
        def flush(self) -> None:  # the line is out: stop
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert command.run(_parse("--port", "0", *flags)) == 0
    assert terminal.getvalue().partition("jobs.jsonl ")[2] == f"{told}\n"


def test_help_tells_how_to_ask_for_a_fault() -> None:
    """The help shows the marker, the file and the two pages, and breaks no line of them."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    said = parser.format_help()
    for words in ("[[fault:503 x2]]", "[[rules]]               # ", "GET /audit ", "POST /clock "):
        assert words in said


def test_flags_cost_no_imports() -> None:
    """Adding the flags imports neither aiohttp nor Pillow, so that `--help` stays fast."""
    code = (
        "import argparse, sys; from gemini_batch.simulator import command; "
        "command.add_arguments(argparse.ArgumentParser()); sys.exit('aiohttp' in sys.modules or 'PIL' in sys.modules)"
    )
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
