"""An asyncio batch engine for the Gemini image API: a manifest of prompts in, images and a results manifest out."""

__version__ = "0.1.0"
