"""Manifests written from lines, and their jobs or problems."""

import json
from pathlib import Path
from typing import Any

import pytest

from gemini_batch.errors import ManifestError
from gemini_batch.manifest import Manifest
from gemini_batch.records.job import Job


def written(*lines: dict[str, Any] | str | bytes) -> Path:
    """Write a manifest of these lines; a dict is a job."""
    path = Path("jobs.jsonl")
    texts = (json.dumps(line) if isinstance(line, dict) else line for line in lines)
    path.write_bytes(b"\n".join(text.encode() if isinstance(text, str) else text for text in texts))
    return path


def scanned(path: Path) -> list[Job]:
    """Return all jobs of a valid manifest."""
    with Manifest(path) as manifest:
        return [job for _, job in manifest.scan()]


def ids_of(*lines: dict[str, Any] | str | bytes) -> list[str | None]:
    """Return the final ids of these lines."""
    return [job.id for job in scanned(written(*lines))]


def refusal(*lines: dict[str, Any] | str | bytes) -> list[str]:
    """Return the problems of an invalid manifest."""
    with pytest.raises(ManifestError) as refused:
        scanned(written(*lines))
    return refused.value.lines()
