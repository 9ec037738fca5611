"""Review: the gallery from a local server, where pictures are marked while a run is in progress."""
