"""The router's questions, its training and what it gets right."""
