"""Table of the faults that answer with an error. One line adds a fault."""

from collections.abc import Callable
from typing import Any

from gemini_batch.simulator import bodies, quota
from gemini_batch.simulator.answers import AnswerContext
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.fault import Fault


def _too_many(
    *kinds: str, wait_s: float | None = None, **extra: Any
) -> Callable[[AnswerContext], ErrorBody]:
    """Return a function that makes the 429 for limits of `kinds`.

    Args:
        *kinds: The limits that are exceeded.
        wait_s: The wait that it names; None is a random share of the minute.
        **extra: Arguments of `bodies.quota_exceeded`.
    """

    def make(context: AnswerContext) -> ErrorBody:
        config = context.config
        limits = {
            quota.REQUESTS_PER_MIN: config.minute_limit or 15,
            quota.REQUESTS_PER_DAY: config.day_limit or 1500,
            quota.TOKENS_PER_MIN: config.tokens_per_min or 1_000_000,
            quota.IMAGES_PER_MIN: config.images_per_min or 10,
            quota.USD_PER_10MIN: config.usd_per_10min or 10,
        }
        retry_s = context.rng.uniform(0.3, 0.7) * config.minute_s if wait_s is None else wait_s
        violations = [quota.Violation(kind, limits[kind], retry_s) for kind in kinds]
        return bodies.quota_exceeded(
            violations, context.request.model.id, free=config.tier == "free", **extra
        )

    return make


def _no_quota(context: AnswerContext) -> ErrorBody:
    violations = [quota.Violation(kind, 0, 34.28) for kind in quota.COUNTS_REQUESTS]
    return bodies.quota_exceeded(violations, context.request.model.id, free=True)


def _gone(context: AnswerContext) -> ErrorBody | None:
    model = context.request.model.id
    return bodies.model_not_found(model, "v1beta") if model == _SHUT_DOWN else None


def _always(body: ErrorBody) -> Callable[[AnswerContext], ErrorBody]:
    return lambda _context: body


# https://ai.google.dev/gemini-api/docs/deprecations: 2026-06-25; it is gone on Vertex AI, and still
# answered on the Gemini API by a report of 2026-10.
_SHUT_DOWN = "gemini-3-pro-image-preview"
_FIELD = (
    "generation_config.image_config",
    (
        "Invalid JSON payload received. "
        "Unknown name \"aspect\" at 'generation_config.image_config': Cannot find field."
    ),
)
_OVERLOADED = "The model is overloaded. Please try again later."
_REPORT_URL = "https://developers.generativeai.google/guide/troubleshooting"
_INTERNAL = f"An internal error has occurred. Please retry or report in {_REPORT_URL}"
_BAD_IMAGE = f"Unable to process input image. Please retry or report in {_REPORT_URL}"
_TRY_LATER = (
    "The server encountered a temporary error and could not complete your request.<p>"
    "Please try again in 30 seconds."
)
_DAILY_WAIT_S = 22.3  # the API names seconds even if the daily quota is used up

ERRORS: dict[str, Fault] = {
    "400": Fault(
        summary="an invalid request: an unknown field", error=_always(bodies.bad_fields([_FIELD]))
    ),
    "400-image": Fault(
        summary="an input image that can't be processed",
        error=_always(
            bodies.error(
                400,
                _BAD_IMAGE,
            )
        ),
    ),
    "400-key": Fault(summary="an invalid key", error=_always(bodies.key_invalid())),
    "400-key-expired": Fault(
        summary="an expired key",
        error=_always(bodies.key_invalid("API key expired. Please renew the API key.")),
    ),
    "400-location": Fault(
        summary="an unsupported region",
        error=_always(
            bodies.error(
                400, "User location is not supported for the API use.", status="FAILED_PRECONDITION"
            )
        ),
    ),
    "400-billing": Fault(
        summary="a project without billing",
        error=_always(
            bodies.error(
                400,
                "Gemini API free tier is not available in your country. Please enable billing on "
                "your project in Google AI Studio.",
                status="FAILED_PRECONDITION",
            )
        ),
    ),
    "400-fetch": Fault(
        summary="an image that the API did not get by its URI",
        error=_always(bodies.error(400, "Cannot fetch content from the provided URL.")),
    ),
    "400-size": Fault(
        summary="a request that is too large", error=_always(bodies.too_large(20_971_520))
    ),
    "401": Fault(summary="not authenticated", error=_always(bodies.unauthenticated())),
    "401-expired": Fault(
        summary="a token whose time is over", error=_always(bodies.unauthenticated(bodies.EXPIRED))
    ),
    "402": Fault(
        summary="no credits left",
        error=_always(
            bodies.error(
                402,
                "Your prepayment credits are depleted. Please go to AI Studio at "
                "https://ai.studio/projects to manage your project and billing.",
            )
        ),
    ),
    "403": Fault(
        summary="no access to the model",
        error=_always(bodies.permission_denied("The caller does not have permission")),
    ),
    "403-leaked": Fault(
        summary="a key that was reported as leaked",
        error=_always(
            bodies.permission_denied(
                "Your API key was reported as leaked. Please use another API key."
            )
        ),
    ),
    "403-blocked": Fault(
        summary="a key without access to this service",
        error=_always(
            bodies.permission_denied(
                "Requests to this API generativelanguage.googleapis.com method "
                "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent "
                "are blocked.",
                "API_KEY_SERVICE_BLOCKED",
            )
        ),
    ),
    "403-disabled": Fault(
        summary="a project whose Vertex AI is not enabled",
        error=_always(
            bodies.permission_denied(
                "Vertex AI API has not been used in project 123456789012 before or it is disabled. "
                "Enable it by visiting https://console.developers.google.com/apis/api/"
                "aiplatform.googleapis.com/overview?project=123456789012 then retry.",
                "SERVICE_DISABLED",
            )
        ),
    ),
    "403-role": Fault(
        summary="a login that may not use the models of the project",
        error=_always(
            bodies.permission_denied(
                "Permission 'aiplatform.endpoints.predict' denied on resource "
                "'//aiplatform.googleapis.com/projects/123456789012/locations/global/publishers/"
                "google/models/gemini-3-pro-image' (or it may not exist).",
                "IAM_PERMISSION_DENIED",
            )
        ),
    ),
    "403-file": Fault(
        summary="a file that does not exist",
        error=_always(
            bodies.permission_denied(
                "You do not have permission to access the File abc-123 or it may not exist."
            )
        ),
    ),
    "403-html": Fault(
        summary="a front end that refuses, as HTML",
        error=_always(
            bodies.page(
                403,
                "Forbidden",
                "Your client does not have permission to get URL from this server.",
            )
        ),
    ),
    "404": Fault(
        summary="the model does not exist",
        error=lambda context: bodies.model_not_found(context.request.model.id, "v1beta"),
    ),
    "404-gone": Fault(
        summary="gemini-3-pro-image-preview is shut down; other models answer", error=_gone
    ),
    "408": Fault(summary="request timeout", error=_always(bodies.error(408, "Request timed out."))),
    "413": Fault(
        summary="a body that is too large for the front end, as HTML",
        error=_always(
            bodies.page(
                413, "Request Entity Too Large", "Your client issued a request that was too large."
            )
        ),
    ),
    "429-minute": Fault(
        summary="requests per minute exceeded", error=_too_many(quota.REQUESTS_PER_MIN)
    ),
    "429-day": Fault(
        summary="requests per day exceeded; names a retry delay of 22 s",
        error=_too_many(quota.REQUESTS_PER_DAY, wait_s=_DAILY_WAIT_S),
    ),
    "429-tokens": Fault(
        summary="input tokens per minute exceeded", error=_too_many(quota.TOKENS_PER_MIN)
    ),
    "429-images": Fault(
        summary="images per minute exceeded", error=_too_many(quota.IMAGES_PER_MIN)
    ),
    "429-usd": Fault(summary="USD per ten minutes exceeded", error=_too_many(quota.USD_PER_10MIN)),
    "429-both": Fault(
        summary="requests per minute and per day exceeded, in one body",
        error=_too_many(quota.REQUESTS_PER_MIN, quota.REQUESTS_PER_DAY, wait_s=_DAILY_WAIT_S),
    ),
    "429-zero": Fault(summary="no quota for this model (limit: 0)", error=_no_quota),
    "429-bare": Fault(
        summary="429 without details",
        error=_always(bodies.error(429, "Resource has been exhausted (e.g. check quota).")),
    ),
    "429-day-text": Fault(
        summary="requests per day exceeded, as the plain text of a gateway",
        error=_always(bodies.text(429, "You have exceeded your daily limit of requests.")),
    ),
    "429-shared": Fault(
        summary="the 429 of Vertex AI, without details",
        error=_always(bodies.error(429, "Resource exhausted, please try again later.")),
    ),
    "429-retry-after": Fault(
        summary="429 with a Retry-After header of 2 s, which the API does not send",
        error=_too_many(quota.REQUESTS_PER_MIN, wait_s=0.5, headers={"Retry-After": "2"}),
    ),
    "499": Fault(
        summary="cancelled", error=_always(bodies.error(499, "The operation was cancelled."))
    ),
    "500": Fault(summary="an internal error", error=_always(bodies.error(500, _INTERNAL))),
    "500-text": Fault(
        summary="an internal error, as plain text",
        error=_always(bodies.text(500, "Internal Server Error")),
    ),
    "502": Fault(
        summary="bad gateway, as HTML", error=_always(bodies.page(502, "Server Error", _TRY_LATER))
    ),
    "502-empty": Fault(summary="bad gateway, without a body", error=_always(bodies.text(502, ""))),
    "503": Fault(summary="the model is overloaded", error=_always(bodies.error(503, _OVERLOADED))),
    "503-html": Fault(
        summary="service unavailable, as HTML",
        error=_always(bodies.page(503, "Service Unavailable", _TRY_LATER)),
    ),
    "504": Fault(
        summary="deadline exceeded",
        error=_always(bodies.error(504, "Deadline expired before operation could complete.")),
    ),
}
