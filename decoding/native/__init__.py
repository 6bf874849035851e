"""The whole forward of a Llama-like model in one call to kernels of our own, on a CPU."""
