"""What a person looks at when a run is over: the gallery of its pictures."""

from gemini_batch.report.gallery import MOST_SHOWN, Gallery, write_gallery

__all__ = ["MOST_SHOWN", "Gallery", "write_gallery"]
