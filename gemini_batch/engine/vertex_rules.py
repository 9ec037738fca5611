"""The retry policy of Vertex AI, where a login, a role and a project allow a call. Pure."""

from dataclasses import replace

from gemini_batch.engine.error_kinds import ErrorKind
from gemini_batch.engine.retry_table import TABLE, Table

_REFUSED = "Vertex AI refused the login ({http_status}): {message}"
# Pages of Google's documentation for the user (collected 2026-11-30, not opened).
_LOCATIONS = "https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations"
_LOGIN = "the project of --vertex has to allow the login of `gcloud auth application-default login`"

VERTEX_TABLE: Table = {
    **TABLE,
    ErrorKind.KEY_REFUSED: replace(
        TABLE[ErrorKind.KEY_REFUSED],
        says=_REFUSED,
        advice=f"{_LOGIN}, or of the file that GOOGLE_APPLICATION_CREDENTIALS names",
    ),
    ErrorKind.NO_ACCESS: replace(TABLE[ErrorKind.NO_ACCESS], says=_REFUSED),
    ErrorKind.NOT_SERVED: replace(
        TABLE[ErrorKind.NOT_SERVED],
        says="Vertex AI does not serve this project or place: {message}",
        advice=f"where it does: {_LOCATIONS}",
    ),
    ErrorKind.NO_MODEL: replace(
        TABLE[ErrorKind.NO_MODEL], says="Vertex AI has no such model at this location: {message}"
    ),
    ErrorKind.OTHER_SERVER: replace(
        TABLE[ErrorKind.OTHER_SERVER],
        says="the server that answered {http_status} is not Vertex AI: {message}",
    ),
}
"""The table of Vertex AI: the same consequences with messages of its own."""
