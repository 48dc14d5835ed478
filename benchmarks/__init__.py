"""Speed measured: training, inference, exact match, each beside a bare loop and the official code. See README.md."""
