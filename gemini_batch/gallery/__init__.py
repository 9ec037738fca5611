"""The gallery: one page that shows the contents of an output folder."""

from gemini_batch.gallery.writer import MAX_SHOWN, Gallery, write_gallery

__all__ = ["MAX_SHOWN", "Gallery", "write_gallery"]
