"""The forward as transformers runs it, with attention and linear layers of our own. Any device."""
