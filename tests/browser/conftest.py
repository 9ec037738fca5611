from tests.unit.gallery.folder import out

__all__ = ["out"]
