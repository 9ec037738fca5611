"""What a person, or a log pipeline, reads on stderr while a run goes on, and at its end."""

from gemini_batch.progress.words import least_time, plain, usd

__all__ = ["least_time", "plain", "usd"]
