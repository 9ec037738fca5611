"""The simulator's Files API and Batch API: uploads, batches that end by the clock, result files."""
