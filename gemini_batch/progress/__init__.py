"""What a person, or a log pipeline, reads on stderr while a run goes on, and at its end."""

from gemini_batch.progress.formatting import count, least_time, list_price, plain, quantity, usd

__all__ = ["count", "least_time", "list_price", "plain", "quantity", "usd"]
