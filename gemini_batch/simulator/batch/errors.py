"""Error bodies of files and batches."""

from gemini_batch.simulator.bodies import ErrorBody, error, permission_denied


def no_file(file_id: str) -> ErrorBody:
    """Return the 403 for a file that does not exist, has expired, or is another project's."""
    return permission_denied(
        f"You do not have permission to access the File {file_id} or it may not exist."
    )


def not_found() -> ErrorBody:
    """Return the 404 for a batch or a result file."""
    return error(404, "Requested entity was not found.")


def storage_full() -> ErrorBody:
    """Return the 429 for a project whose files are at the limit; its text is derived."""
    return error(429, "You have exceeded your project's file storage quota.")


def file_too_large(limit_bytes: int) -> ErrorBody:
    """Return the 400 for an upload above the limit; its text is derived."""
    return error(400, f"File size exceeds the limit: {limit_bytes} bytes.")


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
