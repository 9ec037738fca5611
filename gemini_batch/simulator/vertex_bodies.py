"""Error bodies of Vertex AI alone; the texts are copies of real answers that users have posted."""

from gemini_batch.simulator.bodies import ErrorBody, error, error_info

API = "aiplatform.googleapis.com"


def no_login(*, has_key: bool) -> ErrorBody:
    """Return the 401 of Vertex AI for a request without a token."""
    expected = "Expected OAuth 2 access token"
    message = (
        f"API keys are not supported by this API. {expected} or other authentication credentials "
        "that assert a principal. See https://cloud.google.com/docs/authentication"
        if has_key
        else f"Request is missing required authentication credential. {expected}, login cookie or "
        "other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    details = [error_info("CREDENTIALS_MISSING", service=API)]
    return error(401, message, details=details)


def publisher_model_not_found(project: str, location: str, model: str) -> ErrorBody:
    """Return the 404 of Vertex AI for a model that it does not have, or not at a location."""
    place = f"projects/{project}/locations/{location}/publishers/google/models/{model}"
    return error(
        404,
        f"Publisher Model `{place}` was not found or your project does not have access to it. "
        "Please ensure you are using a valid model version. For more information, see: "
        "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/model-versions",
    )
