"""Progress and results of a run, as shown on stderr."""
