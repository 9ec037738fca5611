"""The batch route: calls are submitted as batches, and later runs collect their answers."""
