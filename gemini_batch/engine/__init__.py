"""One run: its set-up, its calls, its rows and its summary."""
