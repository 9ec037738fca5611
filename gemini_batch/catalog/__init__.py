"""What is decided without I/O: tiers, models, prices, retries, budgets, ids and media types."""
