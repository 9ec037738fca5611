import pytest

from gemini_batch.config.endpoints import GOOGLE, service

GOOGLES = [
    GOOGLE,
    f"{GOOGLE}/v1",
    f"{GOOGLE}:443",
    "https://generativelanguage.mtls.googleapis.com",
    "https://aiplatform.googleapis.com",
    "https://aiplatform.googleapis.com/v1/publishers/google",
    "https://aiplatform.googleapis.com/v1beta1/projects/p/locations/global/publishers/google",
    "https://europe-west4-aiplatform.googleapis.com",
    "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1",
    "https://us-central1-aiplatform.mtls.googleapis.com",
    "https://aiplatform.us.rep.googleapis.com",
    "https://aiplatform.eu.rep.googleapis.com/v1beta1",
]
OTHERS = [
    "simulator",
    "https://gateway.ai.cloudflare.com/v1/account/gateway/google-ai-studio",
    "https://aiplatform.googleapis.com.example.com",
    "https://evil-generativelanguage.googleapis.com",
    "https://storage.googleapis.com",
    "https://rep.googleapis.com",
    "https://aiplatform.us.googleapis.com",
    "http://generativelanguage.googleapis.com",
    "https://generativelanguage.googleapis.com:8443",
    "http://127.0.0.1:8787",
    "https://[",
    "",
]


@pytest.mark.parametrize("endpoint", GOOGLES)
def test_all_of_googles_own_hosts_are_one_service(endpoint: str) -> None:
    """The Gemini API and Vertex AI of any location, by any path, are the same for finished calls."""
    assert service(endpoint) == GOOGLE


def test_any_other_endpoint_is_a_service_of_its_own() -> None:
    """A gateway, the simulator, another port and a host that looks like Google's stay apart."""
    assert [service(endpoint) for endpoint in OTHERS] == OTHERS
