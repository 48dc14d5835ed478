"""Socratic CoT (arXiv 2212.00193): a decomposer that asks, a solver that answers."""
