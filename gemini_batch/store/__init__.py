"""The files of a run: what arrives, and the folder that keeps it."""

from gemini_batch.store.folder import PRIVATE, Store
from gemini_batch.store.incoming import IncomingParts, KeptAnswer, Part
from gemini_batch.store.pixels import load_image_readers

__all__ = ["PRIVATE", "IncomingParts", "KeptAnswer", "Part", "Store", "load_image_readers"]
