"""Sends a call and takes its answer in: the request and answer as JSON, the streaming sieve, and the HTTP session."""
