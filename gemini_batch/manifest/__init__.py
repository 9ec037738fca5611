"""The manifest: a JSONL file of jobs, checked whole before the first request and read again a line at a time."""

from gemini_batch.manifest.reader import MAX_LINE_BYTES, SHOWN_PROBLEMS, Manifest

__all__ = ["MAX_LINE_BYTES", "SHOWN_PROBLEMS", "Manifest"]
