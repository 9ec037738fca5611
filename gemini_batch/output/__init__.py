"""The files of a run: what arrives, and the folder that keeps it."""

from gemini_batch.output.dimensions import load_image_readers
from gemini_batch.output.folder import OutputFolder
from gemini_batch.output.staging import JournaledAnswer, StagedAnswer, StagedFile

__all__ = [
    "JournaledAnswer",
    "OutputFolder",
    "StagedAnswer",
    "StagedFile",
    "load_image_readers",
]
