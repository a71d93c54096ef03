"""LightningModules: fine-tune an image-text model, embed images, compare them with texts."""

from presel_lightning.tasks.embed import Embed
from presel_lightning.tasks.finetune import FineTune
from presel_lightning.tasks.similarity import Similarity as Similarity
from presel_lightning.tasks.two_tower import TwoTower

__all__ = ["Embed", "FineTune", "TwoTower"]
