from gemini_batch.client.interactive import Transport

__all__ = ["Transport"]
