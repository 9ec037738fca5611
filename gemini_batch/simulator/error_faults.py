"""The table of faults that answer with an error. One line adds one."""

from collections.abc import Callable
from typing import Any

from gemini_batch.simulator import bodies, quota
from gemini_batch.simulator.answers import Scene
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.fault import Fault


def _too_many(
    *kinds: str, wait_s: float | None = None, **extra: Any
) -> Callable[[Scene], ErrorBody]:
    """Return the 429 for limits of `kinds`; the wait is a share of the minute unless it is given."""

    def make(scene: Scene) -> ErrorBody:
        config = scene.config
        limits = {
            quota.REQUESTS_PER_MIN: config.minute_limit or 15,
            quota.REQUESTS_PER_DAY: config.day_limit or 1500,
            quota.TOKENS_PER_MIN: config.tokens_per_min or 1_000_000,
            quota.IMAGES_PER_MIN: config.images_per_min or 10,
            quota.USD_PER_10MIN: config.usd_per_10min or 10,
        }
        retry_s = scene.rng.uniform(0.3, 0.7) * config.minute_s if wait_s is None else wait_s
        violations = [quota.Violation(kind, limits[kind], retry_s) for kind in kinds]
        return bodies.quota_exceeded(
            violations, scene.ask.model.id, free=config.tier == "free", **extra
        )

    return make


def _no_quota(scene: Scene) -> ErrorBody:
    violations = [quota.Violation(kind, 0, 34.28) for kind in quota.COUNTS_REQUESTS]
    return bodies.quota_exceeded(violations, scene.ask.model.id, free=True)


def _always(body: ErrorBody) -> Callable[[Scene], ErrorBody]:
    return lambda _scene: body


_FIELD = (
    "generation_config.image_config",
    "Invalid JSON payload received. Unknown name \"aspect\" at 'generation_config.image_config': Cannot find field.",
)
_OVERLOADED = "The model is overloaded. Please try again later."
_INTERNAL = "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting"
_TRY_LATER = "The server encountered a temporary error and could not complete your request.<p>Please try again in 30 seconds."
_DAILY_WAIT_S = 22.3  # what the API says though the day is over

ERRORS: dict[str, Fault] = {
    "400": Fault(
        says="this job is wrong: an unknown field", error=_always(bodies.bad_fields([_FIELD]))
    ),
    "400-image": Fault(
        says="an input image that can't be processed",
        error=_always(
            bodies.error(
                400,
                "Unable to process input image. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
            )
        ),
    ),
    "400-key": Fault(says="the key is wrong", error=_always(bodies.key_invalid())),
    "400-key-expired": Fault(
        says="the key has expired",
        error=_always(bodies.key_invalid("API key expired. Please renew the API key.")),
    ),
    "400-location": Fault(
        says="a region that is not served",
        error=_always(
            bodies.error(
                400, "User location is not supported for the API use.", status="FAILED_PRECONDITION"
            )
        ),
    ),
    "400-billing": Fault(
        says="a project without billing",
        error=_always(
            bodies.error(
                400,
                "Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.",
                status="FAILED_PRECONDITION",
            )
        ),
    ),
    "400-size": Fault(
        says="a request that is too large", error=_always(bodies.too_large(20_971_520))
    ),
    "401": Fault(says="not authenticated", error=_always(bodies.unauthenticated())),
    "402": Fault(
        says="no credits left",
        error=_always(
            bodies.error(
                402,
                "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your "
                "project and billing.",
            )
        ),
    ),
    "403": Fault(
        says="no access to the model",
        error=_always(bodies.permission_denied("The caller does not have permission")),
    ),
    "403-leaked": Fault(
        says="a key that was reported",
        error=_always(
            bodies.permission_denied(
                "Your API key was reported as leaked. Please use another API key."
            )
        ),
    ),
    "403-blocked": Fault(
        says="a key that may not use this service",
        error=_always(
            bodies.permission_denied(
                "Requests to this API generativelanguage.googleapis.com method "
                "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent are blocked.",
                "API_KEY_SERVICE_BLOCKED",
            )
        ),
    ),
    "403-file": Fault(
        says="a file that is not there",
        error=_always(
            bodies.permission_denied(
                "You do not have permission to access the File abc-123 or it may not exist."
            )
        ),
    ),
    "403-html": Fault(
        says="a front end that says no",
        error=_always(
            bodies.page(
                403,
                "Forbidden",
                "Your client does not have permission to get URL from this server.",
            )
        ),
    ),
    "404": Fault(
        says="the model is gone",
        error=lambda scene: bodies.model_not_found(scene.ask.model.id, "v1beta"),
    ),
    "408": Fault(
        says="the request took too long", error=_always(bodies.error(408, "Request timed out."))
    ),
    "413": Fault(
        says="a front end that takes no more",
        error=_always(
            bodies.page(
                413, "Request Entity Too Large", "Your client issued a request that was too large."
            )
        ),
    ),
    "429-minute": Fault(says="too many in this minute", error=_too_many(quota.REQUESTS_PER_MIN)),
    "429-day": Fault(
        says="the day is over; says to retry in 22 s",
        error=_too_many(quota.REQUESTS_PER_DAY, wait_s=_DAILY_WAIT_S),
    ),
    "429-tokens": Fault(
        says="too many input tokens in this minute", error=_too_many(quota.TOKENS_PER_MIN)
    ),
    "429-images": Fault(
        says="too many pictures in this minute", error=_too_many(quota.IMAGES_PER_MIN)
    ),
    "429-usd": Fault(says="too many dollars in ten minutes", error=_too_many(quota.USD_PER_10MIN)),
    "429-both": Fault(
        says="minute and day in one body",
        error=_too_many(quota.REQUESTS_PER_MIN, quota.REQUESTS_PER_DAY, wait_s=_DAILY_WAIT_S),
    ),
    "429-zero": Fault(says="no quota at all for this model (limit: 0)", error=_no_quota),
    "429-bare": Fault(
        says="no details",
        error=_always(bodies.error(429, "Resource has been exhausted (e.g. check quota).")),
    ),
    "429-retry-after": Fault(
        says="with a Retry-After header of 2 s, which the API does not send",
        error=_too_many(quota.REQUESTS_PER_MIN, wait_s=0.5, headers={"Retry-After": "2"}),
    ),
    "499": Fault(
        says="cancelled", error=_always(bodies.error(499, "The operation was cancelled."))
    ),
    "500": Fault(says="an internal error", error=_always(bodies.error(500, _INTERNAL))),
    "500-text": Fault(
        says="an internal error as plain text",
        error=_always(bodies.text(500, "Internal Server Error")),
    ),
    "502": Fault(
        says="a bad gateway as HTML", error=_always(bodies.page(502, "Server Error", _TRY_LATER))
    ),
    "502-empty": Fault(says="a bad gateway without a body", error=_always(bodies.text(502, ""))),
    "503": Fault(says="the model is overloaded", error=_always(bodies.error(503, _OVERLOADED))),
    "503-html": Fault(
        says="unavailable as HTML",
        error=_always(bodies.page(503, "Service Unavailable", _TRY_LATER)),
    ),
    "504": Fault(
        says="the deadline passed",
        error=_always(bodies.error(504, "Deadline expired before operation could complete.")),
    ),
}
