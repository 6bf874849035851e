"""``python -m benchmarks.sweeps``: the parameters that the papers swept, swept here."""
