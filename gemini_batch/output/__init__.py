"""The files of a run: what arrives, and the folder that keeps it."""

from gemini_batch.output.folder import OutputFolder
from gemini_batch.output.staging import StagedAnswer

__all__ = ["OutputFolder", "StagedAnswer"]
