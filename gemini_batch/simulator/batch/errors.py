"""Error bodies of files and batches."""

from gemini_batch.simulator import bodies, quota
from gemini_batch.simulator.bodies import ErrorBody, error, permission_denied


def no_file(file_id: str) -> ErrorBody:
    """Return the 403 for a file that does not exist, has expired, or is another project's."""
    return permission_denied(
        f"You do not have permission to access the File {file_id} or it may not exist."
    )


def not_active(file_id: str) -> ErrorBody:
    """Return the 400 for a file that is PROCESSING."""
    return error(
        400,
        f"The File {file_id} is not in an ACTIVE state and usage is not allowed.",
        status="FAILED_PRECONDITION",
    )


def not_found() -> ErrorBody:
    """Return the 404 for a batch or a result file."""
    return error(404, "Requested entity was not found.")


def unavailable() -> ErrorBody:
    """Return the 503 of files and batches."""
    return error(503, "The service is currently unavailable.")


def empty_503() -> ErrorBody:
    """Return the 503 of an outage of uploads: its message is empty."""
    return error(503, "")


def not_resumable() -> ErrorBody:
    """Return the 400 for an upload by another protocol."""
    return error(
        400,
        "simulator: only resumable uploads are simulated: send X-Goog-Upload-Protocol: resumable "
        "and X-Goog-Upload-Command: start",
    )


def bad_file_name(file_id: str) -> ErrorBody:
    """Return the 400 for the name of a new file; its text is derived."""
    return error(400, f"File files/{file_id} already exists, or its name is too long.")


def upload_ended() -> ErrorBody:
    """Return the 400 for bytes after the end of an upload, and for an unknown command."""
    return error(400, "Upload has already been terminated.")


def no_upload() -> ErrorBody:
    """Return the 404 for an address of an upload that is unknown; its text is derived."""
    return error(404, "Upload not found.")


def wrong_offset(expected: int, offset: str) -> ErrorBody:
    """Return the 400 for a chunk that does not continue the file; its text is derived."""
    return error(400, f"Expected X-Goog-Upload-Offset {expected}, got {offset!r}.")


def two_requests() -> ErrorBody:
    """Return the 400 for a chunk while a newer request sends one; its text is derived."""
    return error(400, "Another request continues this upload.")


def bad_mime_type(mime_type: str) -> ErrorBody:
    """Return the error for a MIME type that is refused; it comes with the status 200."""
    return error(400, f"Unsupported MIME type: {mime_type}")


def storage_full() -> ErrorBody:
    """Return the 429 for a project whose files are at the limit; its text is derived."""
    return error(429, "You have exceeded your project's file storage quota.")


def file_too_large(limit_bytes: int) -> ErrorBody:
    """Return the 400 for an upload above the limit; its text is derived."""
    return error(400, f"File size exceeds the limit: {limit_bytes} bytes.")


def unknown_field() -> ErrorBody:
    """Return the 400 of the strict parser for a field of the first line."""
    return error(
        400,
        "Error on line 1: invalid JSON, near column 1032: no such field: 'thinking_config'",
    )


def no_batches_at_all(model: str) -> ErrorBody:
    """Return the 429 of a project that has no quota for batches (derived from `429-zero`)."""
    violation = quota.Violation(quota.REQUESTS_PER_DAY, 0, 34.28)
    return bodies.quota_exceeded([violation], model, free=True)


def no_batch_quota() -> ErrorBody:
    """Return the 429 of batches, as posted on 2026-01-12: it names neither a quota nor a wait."""
    links = [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ]
    return error(
        429,
        "You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits. "
        "To monitor your current usage, head to: https://ai.dev/rate-limit. ",
        details=[{"@type": "type.googleapis.com/google.rpc.Help", "links": links}],
    )
