"""A frozen model reads samples in a prediction pass."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule

from presel_lightning.models.llava import unwrapped
from presel_lightning.tasks.finetune import FineTune

Batch = dict[str, Any]


class Reader(LightningModule):
    """Base class of a pass in which a frozen model reads samples.

    Args:
        tuned: the model.
    """

    def __init__(self, tuned: FineTune) -> None:
        super().__init__()
        self.tuned = tuned

    def configure_model(self) -> None:
        """Load the weights, on every rank, when the Trainer asks for them."""
        self.tuned.configure_model()

    @property
    def model(self) -> Any:  # noqa: ANN401 - transformers' own class
        """The image-text model itself."""
        return unwrapped(self.tuned.model)

    def configure_optimizers(self) -> None:
        """Nothing is trained."""


def without_place(batch: Batch) -> Batch:
    """What a model reads of a batch: all but the row that its block begins with."""
    return {name: value for name, value in batch.items() if name != "first"}
