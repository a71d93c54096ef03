"""The equations: tensors in, tensors out, one a file; no state, no files."""

from presel_lightning.functional.allocation import allocate, proportional_split
from presel_lightning.functional.centrality import neighbor_centrality
from presel_lightning.functional.kmeans import KMeans, kmeans
from presel_lightning.functional.official import official_task_budgets
from presel_lightning.functional.relevance import instruction_relevance, task_weights
from presel_lightning.functional.token_loss import answer_positions, sample_losses

__all__ = [
    "KMeans",
    "allocate",
    "answer_positions",
    "instruction_relevance",
    "kmeans",
    "neighbor_centrality",
    "official_task_budgets",
    "proportional_split",
    "sample_losses",
    "task_weights",
]
