"""The client of the Gemini API: requests and answers as JSON, streaming, and the HTTP session."""
