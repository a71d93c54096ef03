"""The equations, one per file: tensors in, tensors out, without state or I/O."""

from presel_lightning.functional.allocation import allocate, proportional_split
from presel_lightning.functional.centrality import neighbor_centrality
from presel_lightning.functional.contrastive import bank_losses, contrastive_losses
from presel_lightning.functional.d2_sampling import d2_sample
from presel_lightning.functional.duplicates import similarity_to_earlier
from presel_lightning.functional.facility import Facilities, facility_location
from presel_lightning.functional.farthest import Farthest, farthest_first
from presel_lightning.functional.kmeans import KMeans, kmeans
from presel_lightning.functional.mean_direction import mean_direction
from presel_lightning.functional.medoids import Medoids, medoids
from presel_lightning.functional.official import official_task_budgets
from presel_lightning.functional.packing import next_fit, pack_sequences
from presel_lightning.functional.prism import mean_correlation
from presel_lightning.functional.relevance import instruction_relevance, task_weights
from presel_lightning.functional.token_loss import answer_positions, sample_losses, weighted_total
from presel_lightning.functional.typicality import Typical, typical_first, typicality
from presel_lightning.functional.zcore import draw_points, zcore

__all__ = [
    "Facilities",
    "Farthest",
    "KMeans",
    "Medoids",
    "Typical",
    "allocate",
    "answer_positions",
    "bank_losses",
    "contrastive_losses",
    "d2_sample",
    "draw_points",
    "facility_location",
    "farthest_first",
    "instruction_relevance",
    "kmeans",
    "mean_correlation",
    "mean_direction",
    "medoids",
    "neighbor_centrality",
    "next_fit",
    "official_task_budgets",
    "pack_sequences",
    "proportional_split",
    "sample_losses",
    "similarity_to_earlier",
    "task_weights",
    "typical_first",
    "typicality",
    "weighted_total",
    "zcore",
]
