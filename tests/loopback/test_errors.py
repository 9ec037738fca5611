"""The most common errors, each produced for real, with all of its message: problem, place, next step.

Errors in the bytes and lines of a manifest have such a table in `tests/unit/cli/test_bad_input.py`.
"""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.engine import breaker, setup
from gemini_batch.output import OutputFolder
from gemini_batch.simulator import Simulator
from tests.simulated import simulator

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

ROBOT = b'{"id": "robot", "prompt": "A robot"}\n'
# Quiet, as for cron, and with one attempt, so that nothing waits.
RUN = "run jobs.jsonl --base-url {server} --quiet --max-attempts 1"
AGAIN = f"python -m gemini_batch {RUN}"
GET_A_KEY = "key that may use the model comes from https://aistudio.google.com/apikey"
SEE = "gemini-batch: see: gemini-batch run --help"
PAGE = b"<!DOCTYPE html><title>Sign in</title>Welcome to our hotel"
SMALL_DISK = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "jobs.out"]


def fault(name: str) -> bytes:
    """Return a job that the simulator answers with this fault."""
    return orjson.dumps({"id": "robot", "prompt": f"A robot [[fault:{name}]]"}) + b"\n"


@contextmanager
def file(path: str, content: str) -> Iterator[None]:
    """Write a file."""
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(content, encoding="utf-8")
    yield


@contextmanager
def locked() -> Iterator[None]:
    """Lock the output folder, like another run."""
    with OutputFolder(Path("jobs.out")).locked():
        yield


@contextmanager
def small_disk() -> Iterator[None]:
    """Mount a disk of 1 MB as the output folder, if the machine allows it."""
    Path("jobs.out").mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(SMALL_DISK, capture_output=True, check=False).returncode
    ):
        pytest.skip("no small disk on this machine")
    try:
        yield
    finally:
        subprocess.run(["umount", "jobs.out"], check=True)


@contextmanager
def hotel() -> Iterator[None]:
    """Answer a request with a web page, like the network of a hotel; sets `GEMINI_BATCH_BASE_URL`."""
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMINI_BATCH_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + PAGE)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join(10)


@contextmanager
def no_patience() -> Iterator[None]:
    """Stop at once instead of after two minutes of outage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(breaker, "SERVER_GIVES_UP_AFTER_S", 0.0)
        yield


@contextmanager
def environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable, or take it away."""
    with pytest.MonkeyPatch.context() as patch:
        if value is None:
            patch.delenv(name)
        else:
            patch.setenv(name, value)
        yield


@contextmanager
def bug() -> Iterator[None]:
    """Make our own code fail unexpectedly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "open_run", {}.__getitem__)
        yield


@dataclass(frozen=True)
class Met:
    """An error and its cause.

    Attributes:
        code: The exit code.
        said: All lines except those with counts; `{server}` and the like stand for what varies.
        arguments: The command line.
        jobs: The bytes of the manifest.
        around: The environment.
    """

    code: int
    said: str
    arguments: str = RUN
    jobs: bytes = ROBOT
    around: Callable[[], AbstractContextManager[None]] = nullcontext


def stopped(
    name: str, code: int, why: str, then: str = f"fix the problem above, then run: {AGAIN}"
) -> Met:
    """Return the error after which a fault of the simulator stops the run."""
    return Met(code, f"stopping: {why}\n{then}", jobs=fault(name))


def config(text: str, said: str, code: int = 3) -> Met:
    """Return the error with a config file."""
    return Met(
        code, f"gemini-batch: {said}", f"{RUN} --config c.toml", around=lambda: file("c.toml", text)
    )


def usage(arguments: str, said: str, how: str = SEE) -> Met:
    """Return the error with a wrong command line."""
    return Met(2, f"gemini-batch: {said}\n{how}", arguments)


ERRORS: dict[str, Met] = {
    # --- the key, the project, the model ---
    "no key": Met(
        6,
        "gemini-batch: no key: set GEMINI_API_KEY in the environment, in .env or in ~/.config/gemini_batch/key.env (a key comes from https://aistudio.google.com/apikey), or try it without one: --simulate",
        around=lambda: environment("GEMINI_API_KEY", None),
    ),
    "a key with a blank": Met(
        3,
        "gemini-batch: GEMINI_API_KEY: contains a space, a quote or another invalid character; copy only the key",
        around=lambda: environment("GEMINI_API_KEY", "AIza Sy"),
    ),
    "a wrong key": stopped(
        "400-key",
        6,
        f"the API refused the key (400): API key not valid. Please pass a valid API key. A {GET_A_KEY}",
    ),
    "a leaked key": stopped(
        "403-leaked",
        6,
        f"the API refused the key (403): Your API key was reported as leaked. Please use another API key. A {GET_A_KEY}",
    ),
    "a key of another kind": stopped(
        "401",
        6,
        "the API refused the key (401): Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
        "valid authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project. "
        f"A {GET_A_KEY}",
    ),
    "a key without leave": stopped(
        "403",
        6,
        "the API refused the key (403): The caller does not have permission; "
        "a key that may use gemini-3-pro-image-preview comes from https://aistudio.google.com/apikey",
    ),
    "a place that is not served": stopped(
        "400-location",
        6,
        "the API does not serve this project or place: User location is not supported for the API use. "
        "Where it does: https://ai.google.dev/gemini-api/docs/available-regions",
    ),
    "a model that is retired": Met(
        6,
        "stopping: the API has no such model: models/gemini-3-pro-image-preview is not found for API version v1beta, or is not supported for "
        "generateContent. Call ListModels to see the list of available models and their supported methods. "
        "Its announced successor: --model gemini-3-pro-image\n"
        f"fix the problem above, then run: {AGAIN} --model gemini-3-pro-image-preview",
        f"{RUN} --model gemini-3-pro-image-preview",
        jobs=fault("404"),
    ),
    "a model that never was": Met(
        6,
        "stopping: the API has no such model: models/gemini-3-pro-imag is not found for API version v1beta, or is not supported for "
        "generateContent. Call ListModels to see the list of available models and their supported methods. "
        'Did you mean "gemini-3-pro-image"?\n'
        f"fix the problem above, then run: {AGAIN} --model gemini-3-pro-imag",
        f"{RUN} --model gemini-3-pro-imag",
    ),
    "an address with a path too many": Met(
        6,
        "stopping: the server that answered 404 is not the Gemini API: Error 404 (Not Found)!!1 404. "
        "That\u2019s an error. The requested URL /api/v1beta/models/gemini-3-pro-image-preview:generateContent was not found on this server. "
        "That\u2019s all we know. Check --base-url\n"
        f"fix the problem above, then run: {AGAIN.replace('{server}', '{server}/api')}",
        RUN.replace("{server}", "{server}/api"),
    ),
    "a model's name with a blank": Met(
        3,
        'gemini-batch: jobs.jsonl:1: model: got "nano banana"; a model\'s id has letters, digits, dots and hyphens, as '
        "gemini-3-pro-image-preview has",
        "plan jobs.jsonl",
        b'{"prompt": "x", "model": "nano banana"}',
    ),
    # --- quota and money ---
    "a tier without quota": stopped(
        "429-zero",
        6,
        "this project's tier has no quota for the model, limit: 0 (generate_content_free_tier_requests); image models have no free quota: "
        "set up billing at https://aistudio.google.com/apikey, or with billing choose another model with --model",
    ),
    "no money": stopped(
        "402",
        6,
        "the project can't pay: Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your "
        "project and billing.",
    ),
    "the day is used up": stopped(
        "429-day",
        5,
        "today's quota of gemini-3-pro-image-preview is used up (the server closed the day)",
        f"run again after {{time}}: {AGAIN}",
    ),
    "limits below the tier's": stopped(
        "429-images",
        6,
        "the server keeps answering 429: You exceeded your current quota, please check your plan and billing details. For more information "
        "on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: "
        "https://ai.dev/rate-limit. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_images_per_model, limit: 10, "
        "model: gemini-3-pro-image-preview Please retry in {seconds}s. If the project's limits are lower than the tier's, set them "
        "with --rpm, --rpd or --tpm",
    ),
    "a budget that is too small": Met(
        5,
        "stopping: the budget of $0.100 has $0.100 left, and the next call may cost up to $0.142: --max-cost sets what a run may cost\n"
        f"fix the problem above, then run: {AGAIN} --max-cost 0.1",
        f"{RUN} --max-cost 0.1",
    ),
    "a call above the tier's tokens": Met(
        3,
        "gemini-batch: jobs.jsonl:1: gemini-3-pro-image-preview: one call takes 2 tokens, and the limit is 1 token a minute: it can never be sent; "
        "choose another tier, or smaller inputs",
        f"{RUN} --tpm 1",
    ),
    "a price that is not known": Met(
        0,
        "jobs.jsonl: valid; 1 call, 0 done, 1 to send\n"
        "       1  gemini-9  1K  cost unknown\n"
        "  tokens  about 2 in, 1,120 out\n"
        '  cost    unknown; set the price in a table [prices."gemini-9"] of a --config file\n'
        "  time    tier free: no wait for the quota\n"
        "  output  jobs.out",
        "plan jobs.jsonl --model gemini-9",
    ),
    # --- settings ---
    "a tier's name, misspelt": Met(
        3,
        'gemini-batch: --tier: got "payasyougo"; did you mean "pay-as-you-go"? allowed: free, pay-as-you-go, enterprise, tier-1, tier-2, tier-3',
        f"{RUN} --tier payasyougo",
    ),
    "a tier without numbers": Met(
        3,
        'gemini-batch: --tier: "enterprise" has no numbers of its own; give the limits of your project by at least one of --rpm, --tpm, '
        "--ipm, --rpd, --usd-per-10min, --usd-per-day, or in a table [tiers.enterprise] of a config file",
        f"{RUN} --tier enterprise",
    ),
    "no config file": Met(
        3,
        "gemini-batch: c.toml: can't be read: No such file or directory",
        f"{RUN} --config c.toml",
    ),
    "a config file that is no TOML": config(
        "[tiers.free]\nrpm: 3",
        "c.toml: is not TOML: Expected '=' after a key in a key/value pair (at line 2, column 4)",
    ),
    "a table that is none": config(
        "[tier.free]", 'c.toml: unknown table "tier"; allowed: tiers, prices'
    ),
    "a tier's number that is none": config(
        "[tiers.free]\nrequests_per_min = 0",
        "c.toml: tiers.free.requests_per_min: got 0; allowed: a whole number from 1 to 1,000,000,000,000",
    ),
    "a number that no quota has": Met(
        3,
        "gemini-batch: --rpd: got 18446744073709551616; allowed: a whole number from 1 to 1,000,000,000,000",
        f"{RUN} --rpd 18446744073709551616",
    ),
    "a minute that no clock has": Met(
        3,
        "gemini-batch: --minute: got 100000.0; allowed: seconds, from 0.001 to 86,400",
        f"{RUN} --minute 100000",
    ),
    "an address that a variable was to name": Met(
        3,
        "gemini-batch: --base-url: is empty; allowed: an address such as https://generativelanguage.googleapis.com, or leave it out for "
        "that one",
        "run jobs.jsonl --base-url=",
    ),
    "a simulator and another server": Met(
        3,
        "gemini-batch: --simulate: sends to a simulator, and --base-url to another server: leave one of them out",
        f"{RUN} --simulate",
    ),
    "plain http to another machine": Met(
        3,
        'gemini-batch: --base-url: got "http://example.com"; plain http shows the key to the network: use https, or allow it by '
        "--allow-insecure",
        "run jobs.jsonl --base-url http://example.com",
    ),
    # --- the command line ---
    "a command, misspelt": usage(
        "rum jobs.jsonl",
        'no such command: "rum"; did you mean "run"?',
        "gemini-batch: see: gemini-batch --help",
    ),
    "no command": usage(
        "",
        "the following arguments are required: COMMAND",
        "gemini-batch: see: gemini-batch --help",
    ),
    "no manifest": usage("run", "the following arguments are required: JOBS.jsonl"),
    "a flag, misspelt": usage(
        "run jobs.jsonl --teir free", '--teir: no such flag; did you mean "--tier"?'
    ),
    "a folder that a variable was to name": usage(
        "run jobs.jsonl --out=", "--out: is empty; allowed: a folder, such as jobs.out"
    ),
    "a folder instead of the manifest": Met(
        3, "gemini-batch: .: is a folder; name a JSONL file in it", "plan ."
    ),
    "a flag, where there are none": usage(
        "verify jobs.out --json",
        "--json: no such flag; the only one is --help",
        "gemini-batch: see: gemini-batch verify --help",
    ),
    "a flag, cut short": usage(
        "run jobs.jsonl --sim", '--sim: no such flag; did you mean "--simulate"?'
    ),
    "one argument too many": usage("run a.jsonl b.jsonl", 'unexpected argument: "b.jsonl"'),
    "a word for a number": usage(
        "run jobs.jsonl --rpm ten", "--rpm: got ten; allowed: a whole number from 1"
    ),
    "nothing for a number": usage("run jobs.jsonl --rpm", "--rpm: expected one argument"),
    "a unit behind a number": usage(
        "run jobs.jsonl --deadline 1d",
        "--deadline: got 1d; allowed: seconds above 0, as in 600, or a time with a unit: 45s, 10m, 2h",
    ),
    "a timeout of more than a day": usage(
        "run jobs.jsonl --timeout 100000",
        "--timeout: got 100000; allowed: up to 86400 seconds, which is 24h",
    ),
    "no timeout": usage(
        "run jobs.jsonl --timeout 0",
        "--timeout: got 0; allowed: seconds above 0, as in 600, or a time with a unit: 45s, 10m, 2h",
    ),
    "a choice that is none": usage(
        "run jobs.jsonl --retry failed",
        '--retry: got "failed"; known: blocked, rejected, uncertain, missing, unfetched',
    ),
    "a reason that is none": usage(
        "run jobs.jsonl --retry blocked:",
        '--retry: got "blocked:"; allowed: blocked:REASON,REASON with reasons of rows, such as '
        "IMAGE_SAFETY or EMPTY",
    ),
    # --- the output folder and the disk ---
    "a folder that is held": Met(
        7,
        "gemini-batch: jobs.out: held by another run (process {pid}); wait for it, or choose another folder with --out",
        around=locked,
    ),
    "a folder that can't be made": Met(
        8,
        "gemini-batch: /proc/jobs.out: can't be written: No such file or directory; choose another folder with --out",
        f"{RUN} --out /proc/jobs.out",
    ),
    "a file as folder": Met(
        8,
        "gemini-batch: jobs.jsonl: can't be written: Not a directory; choose another folder with --out",
        f"{RUN} --out jobs.jsonl",
    ),
    "no room": Met(
        8,
        "stopping: jobs.out: the disk has 1 MB left, and the answers in flight and the next one may need 17 MB: free some space, then run "
        f"again\nrun again to continue: {AGAIN}",
        around=small_disk,
    ),
    "rows that are damaged": Met(
        8,
        'gemini-batch: jobs.out/results.jsonl:1: not a row: "no row"; the file was damaged, compressed or edited: repair or '
        "remove that line, and run again",
        around=lambda: file("jobs.out/results.jsonl", "no row\n\n"),
    ),
    "a folder without a run": Met(
        3,
        "gemini-batch: .: has no results.jsonl; name the output folder of a run, such as jobs.out",
        "status .",
    ),
    # --- the network and the server ---
    "a refused connection": Met(
        5,
        "stopping: no connection to http://127.0.0.1:1: Connection refused, for 0 s\n"
        "run again to continue: python -m gemini_batch run jobs.jsonl --base-url http://127.0.0.1:1 --quiet",
        "run jobs.jsonl --base-url http://127.0.0.1:1 --quiet",
        around=no_patience,
    ),
    "a refused connection until the deadline": Met(
        5,
        "stopping: the deadline of 1 s is over; the server can't be reached: no connection to http://127.0.0.1:1: Connection refused\n"
        "run again to continue: python -m gemini_batch run jobs.jsonl --base-url http://127.0.0.1:1 --quiet --deadline 1",
        "run jobs.jsonl --base-url http://127.0.0.1:1 --quiet --deadline 1",
    ),
    "https where there is none": Met(
        5,
        "stopping: no connection to https://{address}: TLS error ({reason}), for 0 s\n"
        "run again to continue: python -m gemini_batch run jobs.jsonl --base-url https://{address} --quiet",
        "run jobs.jsonl --base-url https://{address} --quiet",
        around=no_patience,
    ),
    "a web page in the way": Met(
        4,
        "  robot (line 1): failed: the answer is a web page, not JSON: is a login or a proxy in the way, or is the address wrong?\n"
        "run again to retry the failed calls: python -m gemini_batch run jobs.jsonl --quiet --max-attempts 1",
        "run jobs.jsonl --quiet --max-attempts 1",
        around=hotel,
    ),
    "a redirect": Met(
        6,
        "stopping: the server that answered 307 is not the Gemini API: redirects to localhost:{port}; "
        "redirects are not followed, because the key would go along; check --base-url\n"
        f"fix the problem above, then run: {AGAIN}",
        jobs=fault("redirect"),
    ),
    "a server that is overloaded": Met(
        4,
        "  robot (line 1): failed: The model is overloaded. Please try again later.\n"
        f"run again to retry the failed calls: {AGAIN}",
        jobs=fault("503"),
    ),
    "a job that the server refuses": Met(
        4,
        "  robot (line 1): rejected: Unable to process input image. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting\n"
        f"edit the rejected lines, then run again: {AGAIN}",
        jobs=fault("400-image"),
    ),
    # --- us ---
    "a bug": Met(
        1, "gemini-batch: a bug in gemini_batch; please report it with the file {file}", around=bug
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Simulator]:
    """A simulator that answers at once."""
    with simulator() as running:
        yield running


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.promise("clear")
def test_an_error_says_what_happened_where_and_what_to_do(
    name: str,
    tmp_path: Path,
    server: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each has its exit code and exactly this text; never a traceback, never the key."""
    met = ERRORS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSy-a-key-that-must-never-be-seen-000")
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(tmp_path / "state"))
    for variable in ("GOOGLE_API_KEY", "GEMINI_BATCH_BASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    Path("jobs.jsonl").write_bytes(met.jobs)
    address = server.base_url.removeprefix("http://")
    arguments = (
        met.arguments.replace("{server}", server.base_url).replace("{address}", address).split()
    )
    with met.around():
        code = exit_code(arguments)
    printed = capsys.readouterr()
    said = [line for line in (printed.out + printed.err).splitlines() if " · " not in line]
    assert (code, masked("\n".join(said), address)) == (met.code, met.said)


def exit_code(arguments: list[str]) -> int:
    """Run a command in this process, and return its exit code also after wrong usage."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


def masked(said: str, address: str) -> str:
    """Replace by names what varies."""
    for found, name in (
        (re.escape(f"http://{address}"), "{server}"),
        (re.escape(address), "{address}"),
        (rf"localhost:{address.rpartition(':')[2]}", "localhost:{port}"),
        (rf"process {os.getpid()}\b", "process {pid}"),
        (r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", "{time}"),
        (r"TLS error \([A-Z_]+\)", "TLS error ({reason})"),
        (r"retry in [\d.]+s", "retry in {seconds}s"),
        (r"/\S*gemini_batch-bug-\w+\.txt", "{file}"),
    ):
        said = re.sub(found, name, said)
    return said


def test_the_traceback_of_a_bug_is_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user reads one line, which names the file with the traceback."""
    monkeypatch.setenv("GEMINI_API_KEY", "any")
    (tmp_path / "jobs.jsonl").write_bytes(ROBOT)
    with bug():
        assert main(["run", str(tmp_path / "jobs.jsonl")]) == 1
    said = capsys.readouterr().err
    kept = Path(said.split()[-1])
    assert "Traceback" not in said
    assert "Traceback" in kept.read_text("utf-8")
    kept.unlink()
