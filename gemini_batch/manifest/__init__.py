"""The manifest, a JSONL file of jobs: checked as a whole, then read again line by line."""

from gemini_batch.manifest.reader import MAX_LINE_BYTES, SHOWN_PROBLEMS, Manifest
