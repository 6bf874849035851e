"""Requests, bytes and streams that nobody would send on purpose."""
