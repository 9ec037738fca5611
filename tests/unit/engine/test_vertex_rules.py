"""Errors of Vertex AI, as their bytes come: the consequences of the table, in words that help there."""

from typing import Any

import orjson
import pytest

from gemini_batch.client.response import parse_answer
from gemini_batch.engine.advice import advised
from gemini_batch.engine.error_kinds import ErrorKind, kind_of
from gemini_batch.engine.retry import Decision, RetryAfter, decide
from gemini_batch.engine.retry_table import TABLE
from gemini_batch.engine.vertex_rules import VERTEX_TABLE
from gemini_batch.records import Answer, ApiError, FailureKind, Stop, StopReason

PLACE = "projects/{project}/locations/us-central1/publishers/google/models/gemini-3-pro-image"
NOT_FOUND = (
    f"Publisher Model `{PLACE}` was not found or your project does not have access to it. Please "
    "ensure you are using a valid model version. For more information, see: "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions"
)
UNAUTHENTICATED = "Request had invalid authentication credentials. Expected OAuth 2 access token"


def error(http_status: int, status: str, message: str, reason: str = "") -> ApiError:
    """Return an error of Vertex AI, read from its bytes."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    body: dict[str, Any] = {"code": http_status, "message": message, "status": status}
    body |= {"details": [info | {"domain": "googleapis.com"}]} if reason else {}
    outcome = parse_answer(Answer(http_status, orjson.dumps({"error": body})))
    assert isinstance(outcome, ApiError)
    return outcome


def decided(found: ApiError, model: str = "gemini-3-pro-image") -> Decision:
    """Return what follows from a first attempt, with the advice that the user gets."""
    decision = decide(found, 1, lambda: 0.5, VERTEX_TABLE)
    if not isinstance(decision, Stop):
        return decision
    return advised(Stop(decision.reason, decision.message, model=model), VERTEX_TABLE)


STOPS = {
    "an invalid token": (
        error(401, "UNAUTHENTICATED", UNAUTHENTICATED, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        StopReason.AUTH,
        "gcloud auth application-default login",
    ),
    "a token that stays expired": (
        error(401, "UNAUTHENTICATED", UNAUTHENTICATED, "ACCESS_TOKEN_EXPIRED"),
        StopReason.AUTH,
        "GOOGLE_APPLICATION_CREDENTIALS",
    ),
    "an API that is not enabled": (
        error(
            403,
            "PERMISSION_DENIED",
            "Vertex AI API has not been used in project 1 before or it is disabled. Enable it by "
            "visiting https://console.developers.google.com/apis/api/aiplatform.googleapis.com",
            "SERVICE_DISABLED",
        ),
        StopReason.AUTH,
        "Enable it by visiting",
    ),
    "a project without billing": (
        error(
            403, "PERMISSION_DENIED", "This API method requires billing.", "BILLING_DISABLED"
        ),
        StopReason.AUTH,
        "requires billing",
    ),
    "a login without the role": (
        error(
            403,
            "PERMISSION_DENIED",
            "Permission 'aiplatform.endpoints.predict' denied on resource "
            f"'//aiplatform.googleapis.com/{PLACE.format(project='p')}' (or it may not exist).",
            "IAM_PERMISSION_DENIED",
        ),
        StopReason.NO_ACCESS,
        "role Vertex AI User (roles/aiplatform.user) allows gemini-3-pro-image",
    ),
    "a model that is elsewhere": (
        error(404, "NOT_FOUND", NOT_FOUND.format(project="p")),
        StopReason.MODEL,
        "some models are served at the location global alone",
    ),
    "a model of a project with files in its name": (
        error(404, "NOT_FOUND", NOT_FOUND.format(project="my-files")),
        StopReason.MODEL,
        "Vertex AI has no such model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STOPS)
def test_a_refusal_stops_with_6_and_says_what_to_do(name: str) -> None:
    """No sentence speaks of a key, or of the pages of the Gemini API."""
    found, reason, said = STOPS[name]
    stop = decided(found)

    assert isinstance(stop, Stop)
    assert (stop.reason, stop.exit_code) == (reason, 6)
    assert said in stop.message
    assert found.message[:100] in stop.message
    assert " key" not in stop.message.replace("key file", "")
    assert "aistudio" not in stop.message


def test_a_model_that_is_gone_names_its_successor() -> None:
    """As on the Gemini API."""
    gone = error(404, "NOT_FOUND", NOT_FOUND.format(project="p"))

    stop = decided(gone, "gemini-3-pro-image-preview")

    assert isinstance(stop, Stop)
    assert "its announced successor: --model gemini-3-pro-image" in stop.message


@pytest.mark.parametrize(
    "message",
    [
        "Resource exhausted, please try again later.",
        "Resource exhausted. Please try again later. Please refer to https://cloud.google.com/…",
        "Too many requests. Exceeded the Provisioned Throughput.",
    ],
)
def test_a_429_without_details_holds_back_its_call_alone(message: str) -> None:
    """Shared capacity: the model goes on."""
    found = error(429, "RESOURCE_EXHAUSTED", message)

    assert kind_of(found) is ErrorKind.CAPACITY
    assert decided(found) == RetryAfter(2.5)


def test_the_consequences_are_those_of_the_gemini_api() -> None:
    """The two tables differ in messages alone, and neither leaves out a kind."""
    assert set(VERTEX_TABLE) == set(TABLE) == {*ErrorKind, *FailureKind}
    for kind, rule in VERTEX_TABLE.items():
        of_gemini = TABLE[kind]
        assert (rule.then, rule.scope, rule.may_be_billed, rule.attempts) == (
            of_gemini.then,
            of_gemini.scope,
            of_gemini.may_be_billed,
            of_gemini.attempts,
        )
