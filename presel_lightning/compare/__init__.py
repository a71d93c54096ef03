"""Selectors x budgets x seeds on equal terms, every cell a run folder of its own.

Nothing is imported here: a worker process begins with `jobs`, which needs no torch.
"""
