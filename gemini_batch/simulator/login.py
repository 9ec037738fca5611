"""The login of Google Cloud for the simulated Vertex AI: tokens are issued, checked, and expire."""

import base64
import json
import secrets
from typing import Any

from aiohttp import web

from gemini_batch.simulator import bodies, vertex_bodies
from gemini_batch.simulator.bodies import ErrorBody
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import GOOD_KEY, SimulatorConfig

# google-auth names it in each assertion, also where the file names another address.
_GOOGLES_TOKENS = "https://oauth2.googleapis.com/token"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
# RFC 7523, 6749 and 8693; what proves the identity is in this field of the form.
_GRANTS = {
    "urn:ietf:params:oauth:grant-type:jwt-bearer": "assertion",
    "refresh_token": "refresh_token",
    "urn:ietf:params:oauth:grant-type:token-exchange": "subject_token",
}
_REVOKED = "revoked"


class Login:
    """Issues tokens at `/token`, and says whether a request's token is valid.

    A proof that contains `revoked` is refused. Without `config.key`, a token of elsewhere is valid.
    """

    def __init__(self, config: SimulatorConfig, clock: SettableClock) -> None:
        self._config = config
        self._clock = clock
        self._ends_at_s: dict[str, float] = {}

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_post("/token", self.issue)
        app.router.add_get("/credentials.json", self.show_credentials)
        app.router.add_get("/subject-token", self.show_subject_token)

    def problem(self, request: web.Request) -> ErrorBody | None:
        """Return the API's error for a request's token, or None if it is valid."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if not token:
            has_key = "x-goog-api-key" in request.headers or "key" in request.query
            return vertex_bodies.no_login(has_key=has_key)
        if (ends_at_s := self._ends_at_s.get(token)) is not None:
            is_over = self._clock.steady_s() >= ends_at_s
            return bodies.unauthenticated(bodies.EXPIRED) if is_over else None
        is_known = self._config.key in (None, token) and GOOD_KEY.fullmatch(token)
        return None if scheme == "Bearer" and is_known else bodies.unauthenticated()

    async def issue(self, request: web.Request) -> web.StreamResponse:
        """Answer with a token, or with an error of OAuth."""
        form = await request.post()
        proof = form.get(_GRANTS.get(str(form.get("grant_type")), ""))
        if not isinstance(proof, str) or not proof:
            return _refusal("unsupported_grant_type", "Invalid grant_type or no proof")
        claims = _claims(proof) if "assertion" in form else {}
        if _REVOKED in proof or _REVOKED in str(claims):
            return _refusal("invalid_grant", "Token has been expired or revoked.")
        if "assertion" in form and not self._is_good(claims, str(request.url.with_query(None))):
            return _refusal("invalid_grant", "Invalid JWT: check its aud, scope, iat and exp.")
        token = f"ya29.{secrets.token_urlsafe(150)}"
        self._ends_at_s[token] = self._clock.steady_s() + self._config.token_s
        return web.json_response(
            {
                "access_token": token,
                "expires_in": int(self._config.token_s),
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
            }
        )

    async def show_credentials(self, request: web.Request) -> web.StreamResponse:
        """Answer with a credentials file, of workload identity federation, for this simulator."""
        origin = str(request.url.origin())
        pool = "projects/1/locations/global/workloadIdentityPools/simulator/providers/simulator"
        return web.json_response(
            {
                "type": "external_account",
                "audience": f"//iam.googleapis.com/{pool}",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"{origin}/token",
                "credential_source": {"url": f"{origin}/subject-token"},
            }
        )

    async def show_subject_token(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the proof that the credentials file leads to."""
        return web.Response(text="simulated-identity")

    def _is_good(self, claims: dict[str, Any], url: str) -> bool:
        now_s = self._clock.utc().timestamp()
        try:
            is_now = float(claims["iat"]) - 300 <= now_s < float(claims["exp"])
            is_for_us = claims["aud"] in (url, _GOOGLES_TOKENS)
            return is_now and is_for_us and _SCOPE in claims["scope"].split()
        except (KeyError, TypeError, ValueError, AttributeError):
            return False


def _claims(assertion: str) -> dict[str, Any]:
    """Return what a signed JWT claims; its signature is not checked."""
    try:
        _, claims, _ = assertion.split(".")
        found = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=400)
