"""Strategies, verification and the engine that runs them: no HTTP, usable as a library."""
