"""Comparison of many runs: the table of cells, and its page."""
