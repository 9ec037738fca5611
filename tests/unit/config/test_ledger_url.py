"""The address of a shared ledger, and its password, which is shown nowhere."""

import traceback

import pytest

from gemini_batch.config.ledger_url import (
    is_address,
    known_passwords,
    ledger,
    secrets,
    shown,
    without_secrets,
)
from gemini_batch.config.run_config import RunConfig
from gemini_batch.errors import ConfigError, FlagsError

PLAIN = "postgresql://worker@db.example:5432,standby/quota?sslmode=verify-full"
WITH_PASSWORD = [
    "postgresql://worker:s3cret%3Aword@db/quota",
    "postgres://worker:s3cret@db/quota",
    "postgresql://:s3cret@/quota",
    "postgresql://db/quota?password=s3cret",
    "postgresql://db/quota?user=x&pass%77ord=s3cret",
    "postgresql://db/quota?sslkey=k&sslpassword=s3cret",
]


def test_flag_comes_before_the_environment() -> None:
    """Without both, the ledger is that of the machine."""
    assert ledger(PLAIN, {"GEMINI_BATCH_LEDGER": "postgresql://other/x"}) == PLAIN
    assert ledger(None, {"GEMINI_BATCH_LEDGER": f" {PLAIN}\n"}) == PLAIN
    assert ledger(None, {}) is None


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_password_on_a_flag_is_refused(url: str) -> None:
    """It is exit 2, without the password in any text; in the environment it is allowed."""
    with pytest.raises(FlagsError) as refused:
        ledger(url, {})

    assert "s3cret" not in "".join(traceback.format_exception(refused.value))
    assert "GEMINI_BATCH_LEDGER" in str(refused.value)
    assert refused.value.exit_code == 2
    assert ledger(None, {"GEMINI_BATCH_LEDGER": url}) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "quota.sqlite",
        "mysql://db/quota",
        "POSTGRESQL://db/quota",  # libpq does not know it
        "host=db password=s3cret",
        "postgresql:/db/quota",
        "postgresql://worker:s3c ret@db/quota",
        "postgresql://worker:s3c@ret@db/quota",  # libpq takes the part after it for a host
    ],
)
def test_what_is_no_address(url: str) -> None:
    """Nothing of it is shown, and the run does not go on with the ledger of the machine."""
    for flag, environment in ((None, {"GEMINI_BATCH_LEDGER": url}), (url, {})):
        with pytest.raises(ConfigError) as wrong:
            ledger(flag, environment)
        assert "s3c" not in str(wrong.value)
    assert not is_address(url)


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_name_has_no_password(url: str) -> None:
    """User, hosts and database are shown."""
    assert "s3cret" not in shown(url)
    assert "quota" in shown(url)
    assert any("s3cret" in each for each in secrets(url))
    assert "s3cret" not in without_secrets(f'invalid "{url}": s3cret:word, s3cret%3Aword', url)


def test_name() -> None:
    """Of several hosts all are shown, and a host or a database that the query names."""
    assert shown(PLAIN) == "postgresql://worker@db.example:5432,standby/quota"
    assert secrets(PLAIN) == []
    assert shown("postgresql://?host=/run/pg&dbname=q") == "postgresql:// (/run/pg, q)"


def test_passwords_of_the_environment_are_known() -> None:
    """Those that a crash file must not have: of the address and of libpq's own variable."""
    environment = {"GEMINI_BATCH_LEDGER": WITH_PASSWORD[0], "PGPASSWORD": "another"}

    assert known_passwords(environment) == ["s3cret%3Aword", "s3cret:word", "another"]
    assert known_passwords({"PGPASSWORD": "abc"}) == []


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's ledger counts for a run, but not for a simulator in its process."""
    monkeypatch.setenv("GEMINI_BATCH_LEDGER", WITH_PASSWORD[0])

    settings = RunConfig(api_key="x").settings()
    assert settings.ledger == WITH_PASSWORD[0]
    assert "s3cret" not in repr(settings)
    assert RunConfig(simulate=True).settings().ledger is None
    assert RunConfig(simulate=True, ledger=PLAIN).settings().ledger == PLAIN
    assert "s3cret" not in repr(RunConfig(ledger=WITH_PASSWORD[0]))


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which extra to install."""
    monkeypatch.setattr("gemini_batch.config.ledger_url.find_spec", lambda _: None)

    with pytest.raises(ConfigError, match=r"--ledger: .* pip install 'gemini_batch\[postgres\]'"):
        ledger(PLAIN, {})
