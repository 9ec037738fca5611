"""Built-in data: image models, list prices and tiers."""
