"""Image-text models: put together, found, loaded, made trainable, saved."""

from presel_lightning.models.assemble import build_llava
from presel_lightning.models.checkpoint import describe_checkpoint, resolve_checkpoint
from presel_lightning.models.components import Components
from presel_lightning.models.llava import LoRA, load_model, save_model
from presel_lightning.models.llava_processor import Processor, load_processor
from presel_lightning.models.parts import is_projector
from presel_lightning.models.processor import processor_of
from presel_lightning.models.quantization import Quantization

__all__ = [
    "Components",
    "LoRA",
    "Processor",
    "Quantization",
    "build_llava",
    "describe_checkpoint",
    "is_projector",
    "load_model",
    "load_processor",
    "processor_of",
    "resolve_checkpoint",
    "save_model",
]
