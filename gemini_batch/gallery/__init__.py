"""What a person looks at when a run is over: the gallery of its pictures."""

from gemini_batch.gallery.writer import MOST_SHOWN, Gallery, write_gallery

__all__ = ["MOST_SHOWN", "Gallery", "write_gallery"]
