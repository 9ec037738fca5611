import os
import socket
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gemini_batch import config
from gemini_batch.cli.arguments import parser
from gemini_batch.cli.options import settings
from gemini_batch.config import Timeouts
from gemini_batch.config.asked import Asked
from gemini_batch.config.environment import base_url, read_tables
from gemini_batch.config.keys import find_key
from gemini_batch.config.run_config import RunConfig
from gemini_batch.errors import ConfigError, ExitCode, NoKeyError
from gemini_batch.records import Limits, Status

GOOGLE = "https://generativelanguage.googleapis.com"


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GEMINI_API_KEY": "AIza-1_2"}, "AIza-1_2"),
        ({"GOOGLE_API_KEY": "second"}, "second"),
        ({"GEMINI_API_KEY": "first", "GOOGLE_API_KEY": "second"}, "first"),
        ({"GEMINI_API_KEY": " \n", "GOOGLE_API_KEY": "second"}, "second"),
        ({"GEMINI_API_KEY": " AIza\r\n"}, "AIza"),
        (
            {"GEMINI_API_KEY": "AQ.a!#$%&()*+,-./:;<=>?@[]^_`{|}~"},
            "AQ.a!#$%&()*+,-./:;<=>?@[]^_`{|}~",
        ),
    ],
)
def test_the_key_comes_from_the_environment(environment: dict[str, str], expected: str) -> None:
    """The first variable that is not blank gives the key, without the whitespace around it."""
    assert expected == find_key(environment).value


def test_a_key_that_is_a_whole_file_is_refused() -> None:
    """No key is so long; to keep it out of messages would take minutes."""
    assert find_key({"GEMINI_API_KEY": "k" * 4_096}).value == "k" * 4_096
    with pytest.raises(ConfigError) as caught:
        find_key({"GEMINI_API_KEY": "k" * 4_097})
    assert (
        str(caught.value)
        == "GEMINI_API_KEY: has 4,097 characters, and a key has at most 4,096; copy the key again, and nothing else"
    )


@pytest.mark.parametrize(
    "key", ['"AIza"', "'AIza'", "AI za", "AI\nza", "AI\tza", "AIzä", "AI\x00za", "AI\\za", "“AIza”"]
)
def test_an_invalid_key_is_refused(key: str) -> None:
    """A key that can't be sent as a header, or was copied with its quotes, is refused and not shown."""
    with pytest.raises(ConfigError) as caught:
        find_key({"GOOGLE_API_KEY": key})

    assert (
        str(caught.value)
        == "GOOGLE_API_KEY: contains a space, a quote or another invalid character; copy only the key"
    )
    assert caught.value.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    "environment", [{}, {"GEMINI_API_KEY": ""}, {"GEMINI_API_KEY": " ", "GOOGLE_API_KEY": "\n"}]
)
def test_a_missing_key_says_where_to_get_one(environment: dict[str, str]) -> None:
    """The message says which variable to set, where keys come from, and how to try without a key."""
    with pytest.raises(NoKeyError) as caught:
        find_key(environment)

    expected = "no key: set GEMINI_API_KEY in the environment, in .env or in ~/.config/gemini_batch/key.env (a key comes from https://aistudio.google.com/apikey), or try it without one: --simulate"
    assert expected == str(caught.value)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_the_key_is_not_printed() -> None:
    """The settings' text does not contain the key."""
    settings = config.Settings("free", Limits(), GOOGLE, GOOGLE, "m", api_key="AIzaSecret")

    assert "AIzaSecret" not in repr(settings)


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "variable", "expected"),
    [
        (None, None, GOOGLE),
        ("https://a.test", "https://b.test", "https://a.test"),
        ("https://a.test", "", "https://a.test"),
        (None, " https://b.test\n", "https://b.test"),
        ("https://a.test/", None, "https://a.test"),
        ("https://a.test/gateway//", None, "https://a.test/gateway"),
        ("HTTPS://A.Test:443/Path", None, "https://a.test/Path"),
        ("https://a.test:8443", None, "https://a.test:8443"),
        (f"{GOOGLE}/v1beta", None, GOOGLE),
        (f"{GOOGLE}/v1beta/", None, GOOGLE),
        (f"{GOOGLE}/v1", None, f"{GOOGLE}/v1"),
        ("http://localhost:8080", None, "http://localhost:8080"),
        ("http://127.0.0.1:80", None, "http://127.0.0.1"),
        ("http://127.9.9.9", None, "http://127.9.9.9"),
        ("http://[::1]:8080/", None, "http://[::1]:8080"),
    ],
)
def test_the_address_in_one_spelling(flag: str | None, variable: str | None, expected: str) -> None:
    """The flag overrides the environment, that Google's; one address has one spelling, as rows carry it."""
    environment = {} if variable is None else {"GEMINI_BATCH_BASE_URL": variable}

    assert expected == base_url(flag, environment)


@pytest.mark.parametrize("value", ["", " \n"])
def test_an_empty_address_is_not_google(value: str) -> None:
    """An empty flag or variable is refused, so that the key is not sent to Google by mistake."""
    with pytest.raises(ConfigError) as flag:
        base_url(value, {"GEMINI_BATCH_BASE_URL": "https://b.test"})
    with pytest.raises(ConfigError) as variable:
        base_url(None, {"GEMINI_BATCH_BASE_URL": value})

    expected = f"is empty; allowed: an address such as {GOOGLE}, or leave it out for that one"
    assert str(flag.value) == f"--base-url: {expected}"
    assert str(variable.value) == f"GEMINI_BATCH_BASE_URL: {expected}"


@pytest.mark.parametrize(
    "value",
    [
        "generativelanguage.googleapis.com",
        "ftp://a.test",
        "https://",
        "https:///path",
        "https://a.test:port",
        "https://a.test:99999",
        "https://a b.test",
        "https://a.te\nst",
        "https://[::1",
    ],
)
def test_an_invalid_address_is_refused(value: str) -> None:
    """The message shows the value found, and an example."""
    with pytest.raises(ConfigError) as caught:
        base_url(value, {})

    assert f'--base-url: got "{value}"; allowed: an address such as {GOOGLE}' == str(caught.value)


@pytest.mark.parametrize(
    "value",
    ["https://me:secret@a.test", "https://@a.test", "https://a.test?key=secret", "https://a.test#"],
)
def test_an_address_that_may_hold_a_secret_is_not_shown(value: str) -> None:
    """An address with a user, a query or a fragment is refused, and not repeated."""
    with pytest.raises(ConfigError) as caught:
        base_url(None, {"GEMINI_BATCH_BASE_URL": value})

    expected = f"GEMINI_BATCH_BASE_URL: has a user name, a query or a fragment; allowed: an address such as {GOOGLE}"
    assert expected == str(caught.value)


@pytest.mark.parametrize(
    "value", ["http://a.test", "http://10.0.0.1:80", "http://127.0.0.1.a.test", "http://0.0.0.0"]
)
def test_plain_http_stays_on_this_machine(value: str) -> None:
    """Plain http to another machine would show the key to the network: it must be allowed explicitly."""
    with pytest.raises(ConfigError) as caught:
        base_url(value, {})

    expected = f'--base-url: got "{value}"; plain http shows the key to the network: use https, or allow it by --allow-insecure'
    assert expected == str(caught.value)
    assert value.removesuffix(":80") == base_url(value, {}, allow_insecure=True)


# --- the config file --------------------------------------------------------------------------------------------------


def test_tables_are_read(tmp_path: Path) -> None:
    """A config file's tables are returned unchanged; without a file there are none."""
    file = tmp_path / "config.toml"
    for encoding in (
        "utf-8",
        "utf-8-sig",
    ):
        file.write_text(
            '[tiers.mine]\nrequests_per_min = 7\n[prices]\nnote = "ü"\n', encoding=encoding
        )
        assert read_tables(file) == {
            "tiers": {"mine": {"requests_per_min": 7}},
            "prices": {"note": "ü"},
        }
    assert read_tables(None) == {}


TOO_DEEP = "is nested too deeply; allowed: tables such as [tiers.mine]"


def test_dots_in_texts_and_comments_are_no_levels(tmp_path: Path) -> None:
    """A file with many dots outside of keys is read."""
    dots = "." * 100
    file = tmp_path / "config.toml"
    file.write_text(f'[prices."m{dots}"] # {dots}\nnote = \'{dots}\'\n[tiers."a\\"{dots}"]\n')
    assert read_tables(file)["prices"][f"m{dots}"] == {"note": dots}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"tiers = ", "is not TOML: Invalid value (at end of document)"),
        (b"note = " + b"9" * 5000, "has a number that is too long"),
        (
            b'note = "\xff"',
            "is not TOML: 'utf-8' codec can't decode byte 0xff in position 8: invalid start byte",
        ),
        (b"[tier]\n[prices]", 'unknown table "tier"; allowed: tiers, prices'),
        (b"a=" + b"[" * 3000 + b"]" * 3000, TOO_DEEP),
        (b"a=" + b"{b=" * 3000 + b"1" + b"}" * 3000, TOO_DEEP),
        (b"a." * 30_000 + b"b = 1", TOO_DEEP),
        (b"[" + b"a . " * 100 + b"b]", TOO_DEEP),
        (b'\'a\'."b.\\"".' * 30 + b"b = 1 # [x]", TOO_DEEP),
        (b"# " + b"x" * 300_000, "is larger than 256 KB: no config file is"),
    ],
)
def test_a_wrong_config_file_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    """The message names the file and its problem."""
    file = tmp_path / "config.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        read_tables(file)

    assert f"{file}: {expected}" == str(caught.value)


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "device"])
def test_a_config_that_is_no_regular_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nobody may ever write into a named pipe: it is refused by a sentence, and nothing hangs."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    path, expected = Path("config.toml"), "config.toml: is not a regular file; save it as one first"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo("pipe")
        path.symlink_to("pipe")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
        expected = "config.toml: can't be read: No such device or address"
    with pytest.raises(ConfigError) as caught:
        read_tables(path)
    assert expected == str(caught.value)


def test_a_config_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A missing file, or a folder, is an error and not an empty config."""
    with pytest.raises(ConfigError) as missing:
        read_tables(tmp_path / "config.toml")
    with pytest.raises(ConfigError) as folder:
        read_tables(tmp_path)

    assert f"{tmp_path / 'config.toml'}: can't be read: No such file or directory" == str(
        missing.value
    )
    assert f"{tmp_path}: can't be read: Is a directory" == str(folder.value)


# --- concurrency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requests_per_min", "expected"),
    [(None, 128), (1, 4), (2, 5), (15, 38), (60, 128), (6_000, 128), (50, 125)],
)
def test_as_many_in_flight_as_the_quota_can_use(
    requests_per_min: int | None, expected: int
) -> None:
    """Calls in flight cover two and a half minutes of the quota, within 4 and 128."""
    assert expected == config.concurrency_for(Limits(requests_per_min=requests_per_min))


# --- options and settings ----------------------------------------------------------------------------------


def test_the_command_line_has_the_defaults_of_python() -> None:
    """A flag that is not given and a field that is not given mean the same."""
    options = parser().parse_args(["run", "jobs.jsonl"])

    assert settings(options, needs_key=False) == RunConfig().settings(needs_key=False)


def test_flags_and_python_have_the_same_options() -> None:
    """What a command asks for has the names and the defaults of `RunConfig`."""
    fields = RunConfig.model_fields

    assert [*Asked.__annotations__] == [*fields]
    assert {name for name in fields if getattr(Asked, name) not in (fields[name].default, ())} == (
        set()
    )


def test_every_setting_has_a_flag_but_the_key() -> None:
    """Every option from Python has a flag, except the key, which would show in the process list."""
    options = parser().parse_args(["run", "jobs.jsonl"])

    assert {"api_key"} == {name for name in RunConfig.model_fields if not hasattr(options, name)}


def test_options_become_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tier gives the limits, a field overrides them, and the other settings follow."""
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-of-the-environment")

    settings = RunConfig(
        rpm=4,
        model="models/m",
        retry=frozenset({"rejected", "missing", "unfetched", "blocked:empty, OTHER"}),
    ).settings()

    assert Limits(requests_per_min=4, requests_per_day=1500) == settings.limits
    assert (settings.endpoint, settings.base_url, settings.api_key) == (
        GOOGLE,
        GOOGLE,
        "AIza-of-the-environment",
    )
    assert (settings.model, settings.concurrency) == ("m", 10)
    assert settings.retry == {Status.REJECTED}
    assert (settings.retry_missing, settings.retry_unfetched) == (True, True)
    assert settings.retry_reasons == {"EMPTY", "OTHER"}


def test_a_key_of_ones_own_wins_and_is_not_shown() -> None:
    """A key from Python is used, is not printed, and is not in the error of a wrong one."""
    asked = RunConfig(api_key="AIza-mine")
    assert asked.settings().api_key == "AIza-mine"
    assert "AIza-mine" not in repr(asked)

    with pytest.raises(ConfigError) as caught:
        RunConfig(api_key="AIza mine").settings()
    assert (
        str(caught.value)
        == "api_key: contains a space, a quote or another invalid character; copy only the key"
    )

    with pytest.raises(ValidationError) as wrong_type:
        RunConfig(api_key=b"\xffAIza-mine")
    assert "AIza-mine" not in str(wrong_type.value)


@pytest.mark.parametrize(
    "field",
    [
        {"rpm": 0},
        {"concurrency": 0},
        {"deadline_s": -1},
        {"auth": "bearer"},
        {"retry": {"succeeded"}},
        {"retry": {"blocked:"}},
        {"retry": {"blocked:EMPTY,"}},
        {"retry": {"rejected:400"}},
        {"tyer": "free"},
    ],
)
def test_an_invalid_option_is_refused(field: dict[str, Any]) -> None:
    """An invalid value or name is refused at once, with the name of its field."""
    with pytest.raises(ValidationError, match=next(iter(field))):
        RunConfig(**field)


# --- the timeout ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], Timeouts(10, 60, 300, flex_s=900)),
        (["--service-tier", "flex"], Timeouts(10, 60, 300, flex_s=900)),
        (["--timeout", "900"], Timeouts(10, 60, 900, flex_s=900)),
        (["--timeout", "86400"], Timeouts(10, 60, 86_400, flex_s=86_400)),
        (["--timeout", "30", "--service-tier", "flex"], Timeouts(10, 30, 30, flex_s=30)),
        (["--timeout", "0.5"], Timeouts(0.5, 0.5, 0.5, flex_s=0.5)),
    ],
)
def test_the_timeout_of_an_attempt_is_set(flags: list[str], expected: Timeouts) -> None:
    """`--timeout` is that of the whole attempt, in any service tier; no part of it takes longer."""
    options = parser().parse_args(["run", "jobs.jsonl", "--simulate", *flags])
    assert settings(options).timeouts == expected


@pytest.mark.parametrize("timeout_s", [0, -1, 86_401, float("inf"), float("nan")])
def test_a_timeout_is_at_most_a_day(timeout_s: float) -> None:
    """From Python too, a timeout is above 0 and at most a day."""
    with pytest.raises(ValidationError):
        RunConfig(timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("max_cost", "max_cost_usd"), ("timeout", "timeout_s"), ("concurency", "concurrency")],
)
def test_an_option_that_does_not_exist_is_answered_with_the_nearest(name: str, meant: str) -> None:
    """From Python as on the command line."""
    with pytest.raises(ValidationError, match=f'{name}: no such option; did you mean "{meant}"'):
        RunConfig(**{name: 3})
