"""The same API over another OpenAI-compatible server: no engine here, only calls to it."""
