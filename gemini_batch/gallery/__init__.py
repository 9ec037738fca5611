"""The gallery: one page that shows the contents of an output folder."""
