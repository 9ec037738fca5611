"""The files of a run: what arrives, and the folder that keeps it."""

from gemini_batch.output.dimensions import load_image_readers
from gemini_batch.output.folder import PRIVATE, OutputFolder
from gemini_batch.output.staging import JournaledAnswer, Part, StagedAnswer

__all__ = [
    "PRIVATE",
    "JournaledAnswer",
    "OutputFolder",
    "Part",
    "StagedAnswer",
    "load_image_readers",
]
