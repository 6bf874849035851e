"""Stride and its peers, asked the same over HTTP in alternating turns."""
