"""ICoT-KD: reasoning distilled into the hidden states of a student (arXiv 2311.01460)."""
