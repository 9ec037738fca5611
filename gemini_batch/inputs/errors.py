"""Errors of a reference image."""


class InputImageError(ValueError):
    """A reference image can't be used; the text says what was found, and what to do."""


class ImageChangedError(InputImageError):
    """A reference image is no longer the file that was planned."""
