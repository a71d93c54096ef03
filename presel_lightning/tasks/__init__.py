"""LightningModules: fine-tune an image-text model, embed images."""

from presel_lightning.tasks.embed import Embed
from presel_lightning.tasks.finetune import FineTune

__all__ = ["Embed", "FineTune"]
