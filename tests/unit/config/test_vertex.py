"""The project of Vertex AI: its names, its address, and what it excludes."""

import importlib.util

import pytest

from gemini_batch.cli import main
from gemini_batch.client import request_json
from gemini_batch.config import google_login
from gemini_batch.config.endpoints import GOOGLE, service
from gemini_batch.config.run_config import RunConfig
from gemini_batch.config.vertex import Vertex
from gemini_batch.errors import ConfigError
from gemini_batch.plan.build import price_table

PATH = "/publishers/google"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY", "GEMINI_BATCH_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


ADDRESSES = {
    "my-project": ("https://aiplatform.googleapis.com", "my-project", "global"),
    "my-project/global": ("https://aiplatform.googleapis.com", "my-project", "global"),
    "my-project/us-central1": (
        "https://us-central1-aiplatform.googleapis.com",
        "my-project",
        "us-central1",
    ),
    "123456789012/europe-west4": (
        "https://europe-west4-aiplatform.googleapis.com",
        "123456789012",
        "europe-west4",
    ),
    "example.com:my-project/us": (
        "https://aiplatform.us.rep.googleapis.com",
        "example.com:my-project",
        "us",
    ),
    "my-project/eu": ("https://aiplatform.eu.rep.googleapis.com", "my-project", "eu"),
}


@pytest.mark.parametrize("named", ADDRESSES)
def test_a_location_has_its_own_host(named: str) -> None:
    """As google-genai knows them; rows carry the address, and requests the whole path; all are Google's."""
    address, project, location = ADDRESSES[named]
    settings = RunConfig(vertex=named).settings(needs_key=False)

    assert settings.endpoint == address
    assert settings.base_url == f"{address}/v1/projects/{project}/locations/{location}{PATH}"
    assert service(settings.endpoint) == GOOGLE
    assert settings.vertex is not None
    assert settings.vertex.name == f"{project}/{location}"
    url = request_json.url(settings.base_url, "gemini-3-pro-image")
    assert url == f"{settings.base_url}/models/gemini-3-pro-image:generateContent"


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://psc.example.com", "/v1/projects"),
        ("https://gateway.example.com/vertex", "/vertex/v1/projects"),
        ("https://gateway.example.com/v1beta1", "/v1beta1/projects"),
        ("http://127.0.0.1:8787", "/v1/projects"),
    ],
)
def test_a_base_url_replaces_the_host(
    monkeypatch: pytest.MonkeyPatch, base_url: str, path: str
) -> None:
    """By flag or by environment; rows carry it, and the version that it names is kept."""
    by_flag = RunConfig(vertex="my-project/us-east5", base_url=base_url).settings(needs_key=False)
    monkeypatch.setenv("GEMINI_BATCH_BASE_URL", base_url)
    monkeypatch.setenv("GEMINI_BATCH_VERTEX", "my-project/us-east5")
    by_variable = RunConfig().settings(needs_key=False)

    assert by_flag.endpoint == by_variable.endpoint == base_url
    assert by_flag.base_url == by_variable.base_url
    assert str(by_flag.base_url).endswith(f"{path}/my-project/locations/us-east5{PATH}")


@pytest.mark.parametrize("base_url", [None, "https://psc.example.com"])
def test_a_location_has_its_own_prices(base_url: str | None) -> None:
    """A tenth dearer than the global one, also where Google's host is reached by another name."""

    def rate(vertex: str) -> float:
        settings = RunConfig(vertex=vertex, base_url=base_url).settings(needs_key=False)
        return price_table(settings)["gemini-3-pro-image"].image_output_usd_per_mtok or 0.0

    assert rate("my-project/global") == 120.0
    for location in ("us-central1", "eu"):
        assert rate(f"my-project/{location}") == pytest.approx(132.0)


WRONG = ["", "My-Project", "my project", "-project", "my_project", "p/", "p/USA", "p/us-central",
         "p/us-central1/x", "p/globl", "projects/p", "p?q", "p/..", "a" * 31, "1" * 20]  # fmt: skip


@pytest.mark.parametrize("named", WRONG)
def test_a_wrong_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    """As a flag with 2, from Python and from the environment with 3; all say what is allowed."""
    with pytest.raises(SystemExit) as ended:
        main(["plan", "jobs.jsonl", f"--vertex={named}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("gemini-batch: --vertex: got ")
    assert "allowed: PROJECT or PROJECT/LOCATION, such as my-project" in said
    with pytest.raises(ConfigError, match=r"^--vertex: got "):
        RunConfig(vertex=named).settings(needs_key=False)
    monkeypatch.setenv("GEMINI_BATCH_VERTEX", named)
    with pytest.raises(ConfigError, match=r"^GEMINI_BATCH_VERTEX: got "):
        RunConfig().settings(needs_key=False)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"api_key": "AIza-a-key"}, "api_key: sends a key, and --vertex a login"),
        ({"auth": "query"}, "--auth query: sends a key, and --vertex a login"),
        (
            {"base_url": "https://aiplatform.googleapis.com/v1/publishers/google"},
            "--vertex adds the path",
        ),
        ({"base_url": "https://x.test/v1/projects/p"}, "--vertex adds the path of the project"),
    ],
)
def test_what_excludes_a_login(options: dict[str, str], said: str) -> None:
    """A key and the path of a project contradict it."""
    with pytest.raises(ConfigError, match=said):
        RunConfig(vertex="my-project", **options).settings(needs_key=False)


def test_no_key_is_needed_and_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key there is nothing to say, with one a sentence; no setting has it."""
    assert RunConfig(vertex="my-project").settings().notices == ()
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaSy-a-key-of-the-environment")

    settings = RunConfig(vertex="my-project").settings()

    assert settings.api_key == ""
    assert settings.notices == (
        "GOOGLE_API_KEY is not used: --vertex sends with a Google Cloud login",
    )
    assert RunConfig(vertex="my-project").settings(needs_key=False).notices == ()


@pytest.mark.parametrize("missing", ["google.auth", "requests"])
def test_without_the_library_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Only what sends needs it: a plan does not."""
    found = importlib.util.find_spec
    monkeypatch.setattr(google_login, "find_spec", lambda name: name != missing and found(name))

    with pytest.raises(ConfigError, match=r"pip install 'gemini_batch\[vertex\]'") as raised:
        RunConfig(vertex="my-project").settings()
    assert raised.value.exit_code == 3
    RunConfig(vertex="my-project").settings(needs_key=False)
    RunConfig(vertex="my-project", simulate=True).settings()


def test_the_name_of_a_project_is_that_of_its_location() -> None:
    """No two locations share a quota, and the global one has a name as well."""
    assert Vertex.parse("p").name == "p/global"
    assert Vertex.parse(" p/us-east1 ").name == "p/us-east1"
