"""The manifest, JSONL or a table of jobs: checked as a whole, then read again line by line."""

from gemini_batch.manifest.lines import MAX_LINE_BYTES
from gemini_batch.manifest.plain import PlainJobs
from gemini_batch.manifest.reader import SHOWN_PROBLEMS, Manifest
from gemini_batch.manifest.source import open_manifest
