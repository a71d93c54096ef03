"""A run folder and the processes that work in it."""
