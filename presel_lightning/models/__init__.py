"""Image-text models: found, loaded, made trainable, saved."""

from presel_lightning.models.checkpoint import describe_checkpoint, resolve_checkpoint
from presel_lightning.models.llava import LoRA, load_model, save_model
from presel_lightning.models.processor import Processor, load_processor

__all__ = [
    "LoRA",
    "Processor",
    "describe_checkpoint",
    "load_model",
    "load_processor",
    "resolve_checkpoint",
    "save_model",
]
