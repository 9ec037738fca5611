"""Progress and results of a run, as shown on stderr."""

from gemini_batch.progress.formatting import count, least_time, list_price, plain, quantity, usd

__all__ = ["count", "least_time", "list_price", "plain", "quantity", "usd"]
