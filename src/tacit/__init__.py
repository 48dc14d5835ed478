"""tacit teaches a small language model to reason, and then to reason silently."""
