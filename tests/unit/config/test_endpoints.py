import pytest

from gemini_batch.config.endpoints import GOOGLE, is_vertex, price_factor, service

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


VERTEX_PRICES = {
    "https://aiplatform.googleapis.com": 1.0,
    "https://aiplatform.googleapis.com/v1/publishers/google": 1.0,
    "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers/google": 1.0,
    "https://aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google": 1.1,
    "https://us-central1-aiplatform.googleapis.com": 1.1,
    "https://EUROPE-west4-aiplatform.googleapis.com/v1beta1": 1.1,
    "https://aiplatform.eu.rep.googleapis.com": 1.1,
    "https://us-central1-aiplatform.mtls.googleapis.com": 1.1,
    "https://gateway.test/v1/projects/p/locations/us-central1/publishers/google": 1.1,
}
NOT_VERTEX = [
    GOOGLE,
    "https://generativelanguage.googleapis.com/v1beta",
    "https://gateway.test",
    "https://aiplatform.googleapis.com.evil.test",
    "https://us-central1-aiplatform.googleapis.com.evil.test",
    "https://gateway.test/?x=https://us-central1-aiplatform.googleapis.com",
    "https://gateway.test/locations/us-central1",
    "http://127.0.0.1:8787",
    "simulator",
    "http://[",
]


@pytest.mark.parametrize("base_url", VERTEX_PRICES)
def test_vertex_costs_more_outside_its_global_location(base_url: str) -> None:
    """The location is in the host, or in the path."""
    assert is_vertex(base_url)
    assert price_factor(base_url) == VERTEX_PRICES[base_url]


@pytest.mark.parametrize("base_url", NOT_VERTEX)
def test_other_addresses_have_the_list_price(base_url: str) -> None:
    """The Gemini API, gateways and simulators are not Vertex AI."""
    assert not is_vertex(base_url)
    assert price_factor(base_url) == 1.0
